package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// The calls that make a pod, in their order. What is not a step of the operation: the
// checking of the request before it, the operation's own span, and what the kernel told
// of a start that was over.
var (
	making  = []string{"RunPodSandbox", "CreateContainer", "StartContainer", "UpdateContainerResources"}
	noSteps = []string{"cri.admit", "lifecycle.run_sandbox", "lifecycle.create_container", "lifecycle.start_container", "lifecycle.update_resources",
		"ebpf.first_exec", "ebpf.first_listen", "ebpf.first_connection", "ebpf.first_accept"}
)

// A step that fails is named by the error, undone, and done by the next attempt.
func TestFaultAtEveryStepIsNamedUndoneAndRetried(t *testing.T) {
	n := start(t, harness.Options{LogLevel: "info"})
	n.ctx = harness.Context(t, 8*time.Minute)
	type point struct {
		call, step string
		count      int // the how-manieth span of this name since the daemon's start
	}
	var points []point
	counts := map[string]int{}
	first := life{node: n, pod: n.made("discovered")}
	for _, call := range making {
		ctx, id := harness.Traced(n.ctx)
		if err := first.do(ctx, call); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, s := range harness.Must(n.Trace(n.ctx, id))(t).Spans {
			if s.Kind != "" || s.Service != "vitrined" || slices.Contains(noSteps, s.Name) {
				continue
			}
			counts[s.Name]++
			if !seen[s.Name] {
				points = append(points, point{call, s.Name, counts[s.Name]})
			}
			seen[s.Name] = true
		}
	}
	n.must(n.cri.RemovePod(n.ctx, first.sandbox))
	n.nothingLeft()
	if len(points) < 15 {
		t.Fatalf("only the steps %v", points)
	}
	for _, p := range points {
		t.Run(p.call+"/"+p.step, func(t *testing.T) {
			n.Options.Env = []string{fmt.Sprintf("VITRINE_FAULTS=%s=fail(%d)", p.step, p.count)}
			harness.Must(n.Restart(n.ctx))(t)
			m := *n
			m.TB = t
			l := life{node: &m, pod: n.made(strings.NewReplacer(".", "-", "_", "-").Replace(p.step))}
			for _, call := range making {
				before := harness.Must(n.Census())(t)
				err := l.do(n.ctx, call)
				if call != p.call {
					m.must(err)
					continue
				}
				text := status.Convert(err).Message()
				if err == nil || !strings.Contains(text, "a fault was injected") || !strings.Contains(text, "step ") {
					t.Fatalf("the error of the step: %q", text)
				}
				if call != "StartContainer" { // a container that did not start ends, and stays for its status
					harness.NothingLeft(t, n.Daemon, before)
				}
				l.again(err)
			}
			m.must(n.cri.RemovePod(n.ctx, l.sandbox))
			m.nothingLeft()
		})
	}
	n.Options.Env = nil
}

// made is a pod with everything that making one can do: network, shared processes.
func (n *node) made(name string) *runtime.PodSandboxConfig {
	pod := n.Pod(name)
	pod.Linux.SecurityContext.NamespaceOptions.Pid = runtime.NamespaceMode_POD
	return pod
}

// life makes one pod call by call.
type life struct {
	*node
	pod                *runtime.PodSandboxConfig
	sandbox, container string
}

func (l *life) do(ctx context.Context, call string) (err error) {
	switch call {
	case "RunPodSandbox":
		l.sandbox, err = l.cri.RunPod(ctx, l.pod)
	case "CreateContainer":
		c := harness.Container(l.pod, "c", l.image, "sleep", "1000")
		c.Mounts = []*runtime.Mount{{ContainerPath: "/volume", Image: &runtime.ImageSpec{Image: l.image}, Readonly: true}}
		l.container, err = l.cri.Create(ctx, l.sandbox, l.pod, c)
	case "StartContainer":
		err = l.cri.Start(ctx, l.container)
	case "UpdateContainerResources":
		_, err = l.cri.UpdateContainerResources(ctx, &runtime.UpdateContainerResourcesRequest{
			ContainerId: l.container, Linux: &runtime.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 128 << 20, OomScoreAdj: 950},
		})
	}
	return err
}

// again does as kubelet does after a failure: the same call once more, or another
// container for one that ended.
func (l *life) again(failed error) {
	l.Helper()
	switch {
	case l.sandbox == "":
		l.must(l.do(l.ctx, "RunPodSandbox"))
		return
	case l.container == "":
		l.must(l.do(l.ctx, "CreateContainer"))
		return
	}
	s := harness.Must(l.cri.Status(l.ctx, l.container))(l)
	switch s.State {
	case runtime.ContainerState_CONTAINER_EXITED:
		if s.Reason != "StartError" {
			l.Errorf("after %v: reason %q, want StartError", failed, s.Reason)
		}
		l.must(l.cri.Remove(l.ctx, l.container))
		l.must(l.do(l.ctx, "CreateContainer"))
		l.must(l.do(l.ctx, "StartContainer"))
	case runtime.ContainerState_CONTAINER_CREATED:
		l.must(l.do(l.ctx, "StartContainer"))
	default:
		if r := s.Resources.GetLinux(); r.GetCpuShares() != 256 || r.GetOomScoreAdj() != 900 {
			l.Errorf("after a failed update the record has %v", r)
		}
		if score := harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", initPID(l, l.node, l.container))))(l); string(score) != "900\n" {
			l.Errorf("after a failed update the program has the oom_score_adj %s", score)
		}
		l.must(l.do(l.ctx, "UpdateContainerResources"))
	}
	if s := harness.Must(l.cri.Status(l.ctx, l.container))(l); s.State != runtime.ContainerState_CONTAINER_RUNNING {
		l.Errorf("after the retry the container is %s", s.State)
	}
}
