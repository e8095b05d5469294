package e2e

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// refused checks that a call ended with the code and one readable line that names
// the cause.
func refused(t testing.TB, err error, code codes.Code, cause string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Errorf("got code %v, want %v: %s", s.Code(), code, s.Message())
	}
	if strings.ContainsAny(s.Message(), "\n\t") || len(s.Message()) > 500 {
		t.Errorf("not one readable line: %q", s.Message())
	}
	if !strings.Contains(s.Message(), cause) {
		t.Errorf("the message does not name %q: %q", cause, s.Message())
	}
}

const absentID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestContainerThatCannotBeIsRefusedAndLeavesNothing(t *testing.T) {
	n := start(t, harness.Options{})
	for name, tc := range map[string]struct {
		change func(*runtime.ContainerConfig)
		code   codes.Code
		cause  string
	}{
		"absent image": {func(c *runtime.ContainerConfig) { c.Image.Image = hub.Addr + "/no/such:1" }, codes.NotFound, "no/such:1"},
		"absent command": {func(c *runtime.ContainerConfig) { c.Command = []string{"/no/such/program"} },
			codes.InvalidArgument, "/no/such/program"},
		"command that is a directory": {func(c *runtime.ContainerConfig) { c.Command = []string{"/etc"} }, codes.InvalidArgument, "/etc"},
		"absent user name": {func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.RunAsUsername = "nobody-here" },
			codes.InvalidArgument, "nobody-here"},
		"negative uid": {func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.RunAsUser = &runtime.Int64Value{Value: -5} },
			codes.InvalidArgument, "-5"},
		"uid above 31 bits": {func(c *runtime.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser = &runtime.Int64Value{Value: 1 << 32}
		}, codes.InvalidArgument, "4294967296"},
		"group without a user": {func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.RunAsGroup = &runtime.Int64Value{Value: 7} },
			codes.InvalidArgument, "group"},
		"absent mount source": {func(c *runtime.ContainerConfig) {
			c.Mounts = []*runtime.Mount{{ContainerPath: "/data", HostPath: "/no/such/source"}}
		}, codes.InvalidArgument, "/no/such/source"},
		"relative mount target": {func(c *runtime.ContainerConfig) {
			c.Mounts = []*runtime.Mount{{ContainerPath: "data", HostPath: "/tmp"}}
		}, codes.InvalidArgument, "data"},
		"absent seccomp profile": {func(c *runtime.ContainerConfig) {
			c.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "/no/such/profile.json"}
		}, codes.InvalidArgument, "/no/such/profile.json"},
		"memory limit below the minimum": {func(c *runtime.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 100 << 10 },
			codes.InvalidArgument, "102400"},
		"unknown capability": {func(c *runtime.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &runtime.Capability{AddCapabilities: []string{"FLY"}}
		}, codes.InvalidArgument, "FLY"},
		"variable that is not UTF-8": {func(c *runtime.ContainerConfig) {
			c.Envs = []*runtime.KeyValue{{Key: "BYTES", Value: []byte("a\xff")}}
		}, codes.InvalidArgument, "BYTES"},
		"log path that climbs out":  {func(c *runtime.ContainerConfig) { c.LogPath = "../../../etc/x.log" }, codes.InvalidArgument, "../../../etc/x.log"},
		"log path that is no file":  {func(c *runtime.ContainerConfig) { c.LogPath = "." }, codes.InvalidArgument, "log_path"},
		"log path that is too long": {func(c *runtime.ContainerConfig) { c.LogPath = strings.Repeat("d", 256) + "/x.log" }, codes.InvalidArgument, "log_path"},
		"no metadata":               {func(c *runtime.ContainerConfig) { c.Metadata = nil }, codes.InvalidArgument, "metadata"},
		"privileged in an ordinary pod": {func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.Privileged = true },
			codes.InvalidArgument, "privileged"},
	} {
		t.Run(name, func(t *testing.T) {
			m := *n
			m.TB = t
			pod := n.HostPod("bad")
			sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
			before := harness.Must(n.Census())(t)
			c := harness.Container(pod, "c", n.image, "/bin/sleep", "100")
			tc.change(c)
			id, err := n.cri.Create(n.ctx, sandbox, pod, c)
			if err == nil { // a program that cannot be executed may be noticed at start
				err = n.cri.Start(n.ctx, id)
				if err != nil {
					s := harness.Must(n.cri.Status(n.ctx, id))(t)
					if s.State != runtime.ContainerState_CONTAINER_EXITED || s.Reason != "StartError" || s.ExitCode < 126 || s.ExitCode > 128 {
						t.Errorf("after a failed start: %v, reason %q, exit code %d", s.State, s.Reason, s.ExitCode)
					}
				}
				m.must(n.cri.Remove(n.ctx, id))
			}
			refused(t, err, tc.code, tc.cause)
			harness.NothingLeft(t, n.Daemon, before)
			list := harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{}))(t)
			if len(list.Containers) != 0 {
				t.Errorf("%d containers are listed", len(list.Containers))
			}
			m.must(n.cri.RemovePod(n.ctx, sandbox))
			m.nothingLeft()
		})
	}
}

func TestSandboxThatCannotBeIsRefusedAndLeavesNothing(t *testing.T) {
	n := start(t, harness.Options{})
	for name, tc := range map[string]struct {
		change  func(*runtime.PodSandboxConfig)
		handler string
		cause   string
	}{
		"no metadata":             {func(p *runtime.PodSandboxConfig) { p.Metadata = nil }, "", "metadata"},
		"unknown runtime handler": {func(*runtime.PodSandboxConfig) {}, "warp", "warp"},
		"sysctl of the host":      {func(p *runtime.PodSandboxConfig) { p.Linux.Sysctls = map[string]string{"vm.swappiness": "1"} }, "", "vm.swappiness"},
		"sysctl with a second one": {func(p *runtime.PodSandboxConfig) {
			p.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1+x=2"}
		}, "", "shm_rmid_forced"},
		"net sysctl on the host's network": {func(p *runtime.PodSandboxConfig) {
			p.Linux.SecurityContext.NamespaceOptions.Network = runtime.NamespaceMode_NODE
			p.Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "0"}
		}, "", "net.ipv4.ip_forward"},
		"log directory that is too long": {func(p *runtime.PodSandboxConfig) { p.LogDirectory += "/" + strings.Repeat("d", 256) }, "", "log_directory"},
		"hostname of 65 letters":         {func(p *runtime.PodSandboxConfig) { p.Hostname = strings.Repeat("h", 65) }, "", "hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := n.Pod("bad")
			tc.change(pod)
			_, err := n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: tc.handler})
			refused(t, err, codes.InvalidArgument, tc.cause)
			list := harness.Must(n.cri.ListPodSandbox(n.ctx, &runtime.ListPodSandboxRequest{}))(t)
			if len(list.Items) != 0 {
				t.Errorf("%d sandboxes are listed", len(list.Items))
			}
			harness.NothingLeft(t, n.Daemon, n.clean)
		})
	}
}

func TestRetriedRequestsAnswerTheSameObject(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("retried")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	if again := harness.Must(n.cri.RunPod(n.ctx, pod))(t); again != sandbox {
		t.Errorf("RunPodSandbox of the same attempt: %.13s, then %.13s", sandbox, again)
	}
	c := harness.Container(pod, "c", n.image, "/bin/sleep", "100")
	id := harness.Must(n.cri.Create(n.ctx, sandbox, pod, c))(t)
	if again := harness.Must(n.cri.Create(n.ctx, sandbox, pod, c))(t); again != id {
		t.Errorf("CreateContainer of the same attempt: %.13s, then %.13s", id, again)
	}
	if list := harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{}))(t); len(list.Containers) != 1 {
		t.Errorf("%d containers after two requests for one", len(list.Containers))
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestCallsOnUnknownIDs(t *testing.T) {
	n := start(t, harness.Options{})
	ctx, c := n.ctx, n.cri
	second := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"ContainerStatus":          second(c.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: absentID})),
		"PodSandboxStatus":         second(c.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: absentID})),
		"ContainerStats":           second(c.ContainerStats(ctx, &runtime.ContainerStatsRequest{ContainerId: absentID})),
		"PodSandboxStats":          second(c.PodSandboxStats(ctx, &runtime.PodSandboxStatsRequest{PodSandboxId: absentID})),
		"StartContainer":           c.Start(ctx, absentID),
		"ExecSync":                 second(c.Exec(ctx, absentID, 5, "true")),
		"Exec":                     second(c.RuntimeServiceClient.Exec(ctx, &runtime.ExecRequest{ContainerId: absentID, Cmd: []string{"true"}, Stdout: true})),
		"Attach":                   second(c.Attach(ctx, &runtime.AttachRequest{ContainerId: absentID, Stdout: true})),
		"PortForward":              second(c.PortForward(ctx, &runtime.PortForwardRequest{PodSandboxId: absentID, Port: []int32{80}})),
		"ReopenContainerLog":       second(c.ReopenContainerLog(ctx, &runtime.ReopenContainerLogRequest{ContainerId: absentID})),
		"UpdateContainerResources": second(c.UpdateContainerResources(ctx, &runtime.UpdateContainerResourcesRequest{ContainerId: absentID, Linux: &runtime.LinuxContainerResources{CpuShares: 2}})),
		"CreateContainer":          second(c.Create(ctx, absentID, n.HostPod("x"), harness.Container(n.HostPod("x"), "c", n.image, "true"))),
	} {
		t.Run(name, func(t *testing.T) { refused(t, err, codes.NotFound, absentID[:13]) })
	}
	for name, err := range map[string]error{
		"StopContainer":    c.Stop(ctx, absentID, 1),
		"RemoveContainer":  c.Remove(ctx, absentID),
		"StopPodSandbox":   c.StopPod(ctx, absentID),
		"RemovePodSandbox": second(c.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: absentID})),
		"RemoveImage":      second(c.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: hub.Addr + "/no/such:1"}})),
	} {
		if err != nil {
			t.Errorf("%s of an unknown id is not a success: %v", name, err)
		}
	}
	if s := harness.Must(c.ImageStatus(ctx, &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{Image: hub.Addr + "/no/such:1"}}))(t); s.Image != nil {
		t.Errorf("ImageStatus of an absent image: %v", s.Image)
	}
	for name, err := range map[string]error{
		"empty container id": second(c.ContainerStatus(ctx, &runtime.ContainerStatusRequest{})),
		"empty command":      second(c.Exec(ctx, absentID, 5)),
	} {
		if code := status.Code(err); code != codes.InvalidArgument && code != codes.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.nothingLeft()
}

func TestPullOfWhatIsNotThereNamesIt(t *testing.T) {
	n := start(t, harness.Options{})
	_, err := n.cri.Pull(n.ctx, hub.Addr+"/no/such:1")
	refused(t, err, codes.NotFound, "no/such:1")
	_, err = n.cri.Pull(n.ctx, "127.0.0.1:1/gone:1")
	if !strings.Contains(status.Convert(err).Message(), "RegistryUnavailable") {
		t.Errorf("a registry that cannot be reached must say RegistryUnavailable: %v", err)
	}
	_, err = n.cri.Pull(n.ctx, "UPPER CASE//:")
	refused(t, err, codes.InvalidArgument, "UPPER CASE")
	n.nothingLeft()
}
