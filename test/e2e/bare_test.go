package e2e

import (
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// What a person writes into crictl's files is names and an image. Nothing of what is
// left out may be taken for there, least of all by what only some nodes use.
func TestRequestsThatLeaveOutAllTheyMayAreServed(t *testing.T) {
	for _, c := range []struct {
		name    string
		plugins bool
	}{{"alone", false}, {"with plugins", true}} {
		t.Run(c.name, func(t *testing.T) {
			var n *node
			if c.plugins {
				n = withPlugins(t, "request_timeout_ms = 30000", "")
				startPlugin(t, n, "bare").await("synchronized ")
			} else {
				n = start(t, harness.Options{})
			}
			pod := &runtime.PodSandboxConfig{Metadata: &runtime.PodSandboxMetadata{Name: "bare", Namespace: "test", Uid: n.Daemon.Name}}
			sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
			id := harness.Must(n.cri.Create(n.ctx, sandbox, pod, &runtime.ContainerConfig{
				Metadata: &runtime.ContainerMetadata{Name: "c"}, Image: &runtime.ImageSpec{Image: n.image},
			}))(t)
			n.must(n.cri.Start(n.ctx, id))
			said := harness.Must(n.cri.ExecSync(n.ctx, &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"/bin/echo", "here"}}))(t)
			if string(said.Stdout) != "here\n" || said.ExitCode != 0 {
				t.Errorf("exec in a bare container: %v", said)
			}
			if got := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t); got.Status.State != runtime.ContainerState_CONTAINER_RUNNING {
				t.Errorf("its status: %v", got.Status)
			}
			harness.Must(n.cri.ContainerStats(n.ctx, &runtime.ContainerStatsRequest{ContainerId: id}))(t)
			harness.Must(n.cri.PodSandboxStats(n.ctx, &runtime.PodSandboxStatsRequest{PodSandboxId: sandbox}))(t)
			n.must(n.cri.RemovePod(n.ctx, sandbox))
			n.nothingLeft()
		})
	}
}
