package e2e

import (
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// What a person writes into crictl's files is names and an image. Nothing of what is
// left out may be taken for there, least of all by what only some nodes use.
func TestRequestsThatLeaveOutAllTheyMayAreServed(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T) *node{
		"alone":           func(t *testing.T) *node { return start(t, harness.Options{}) },
		"without plugins": func(t *testing.T) *node { return withPlugins(t, "", "") },
		"with a plugin": func(t *testing.T) *node {
			n := withPlugins(t, "request_timeout_ms = 30000", "")
			startPlugin(t, n, "bare").await("synchronized ")
			n.clean = harness.Must(n.Census())(t) // the plugin's connection stays
			return n
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := begin(t)
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
			_, err := n.cri.UpdateContainerResources(n.ctx, &runtime.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtime.LinuxContainerResources{CpuShares: 300}})
			n.must(err)
			want := int64(300)
			if name == "with a plugin" { // which doubles them
				want = 600
			}
			if got := harness.Must(n.cri.Status(n.ctx, id))(t).GetResources().GetLinux().GetCpuShares(); got != want {
				t.Errorf("shares are %d after an update, want %d", got, want)
			}
			_, err = n.cri.UpdatePodSandboxResources(n.ctx, &runtime.UpdatePodSandboxResourcesRequest{PodSandboxId: sandbox})
			n.must(err)
			n.must(n.cri.RemovePod(n.ctx, sandbox))
			n.nothingLeft()
		})
	}
}
