package telemetry

import (
	"context"
	"fmt"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// A node that has seen 100,000 pods has the series of one that has seen a few, and
// remembers none of them in its accounts.
func TestAChurnOfPodsAddsNoSeries(t *testing.T) {
	pods := 100_000
	if testing.Short() {
		pods = 5_000
	}
	tel, _ := start(t, Config{LogLevel: "error"})
	ctx := tel.Context(context.Background())
	live := func(n int) {
		id := pod.ID(fmt.Sprintf("%064x", n))
		sb := pod.Sandbox{ID: id, Config: pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{Metadata: &runtime.PodSandboxMetadata{Name: fmt.Sprint("pod-", n), Namespace: fmt.Sprint("ns-", n), Uid: fmt.Sprint("uid-", n)}}}}
		began := time.Unix(int64(n), 0)
		c := &pod.Container{ID: id, Handler: "", Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: fmt.Sprint("c-", n), Attempt: uint32(n)}}},
			CreatedAt: began, StartedAt: began.Add(time.Millisecond), FinishedAt: began.Add(time.Second),
			Exit: &pod.Exit{Code: int32(n % 200), Reason: "Error", Source: "monitor", LogBytes: 100, LogLines: 2}}
		callCtx, call := Start(ctx, "lifecycle.run_sandbox", SandboxAttributes(sb)...)
		_, step := Start(callCtx, "network.cni", KeyCNIPlugin.String(fmt.Sprint("plugin-", n)), KeyCNICommand.String("ADD"))
		step.End(nil)
		failure := fmt.Errorf("cause %d", n)
		_, pull := Start(callCtx, "image.pull", KeyImageName.String(fmt.Sprint("image-", n)), KeyErrorType.String(fmt.Sprint("class-", n)))
		pull.End(&failure)
		_, layer := Start(callCtx, "image.layer.download", KeyImageBytes.Int64(10), KeyImageEndpoint.String(fmt.Sprint("host-", n)))
		layer.End(nil)
		call.End(nil)
		for _, kind := range []pod.EventKind{pod.SandboxReady, pod.ContainerCreated, pod.ContainerStarted, pod.ContainerExited, pod.ContainerRemoved, pod.SandboxRemoved} {
			e := pod.Event{Kind: kind, Sandbox: sb}
			if kind != pod.SandboxReady && kind != pod.SandboxRemoved {
				e.Container = c
			}
			tel.Observe(e)
		}
	}
	count := func() (series int) {
		tel.ended.settle()
		families, err := tel.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			series += len(f.GetMetric())
		}
		return series
	}
	// Bounded labels have had every value that they can have, so nothing can be new.
	const few = 200
	for n := range few {
		live(n)
	}
	before := count()
	for n := range pods {
		live(few + n)
	}
	if after := count(); after != before {
		t.Errorf("%d series after %d pods, %d after %d", before, few, after, pods)
	}
	if left := len(tel.account.seen); left != 0 {
		t.Errorf("%d containers are remembered that are gone", left)
	}
}
