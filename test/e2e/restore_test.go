package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// checkpointed is a pod of two counters with its checkpoint in dir; the pod runs on.
func (n *node) checkpointed(dir, name, handler string) (sandbox string, pod *runtime.PodSandboxConfig, containers []*runtime.ContainerConfig, ids []string) {
	n.Helper()
	pod = n.Pod(name)
	sandbox = harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: handler}))(n).PodSandboxId
	for _, name := range []string{"one", "two"} {
		id, c := n.counter(sandbox, pod, name, 2)
		ids, containers = append(ids, id), append(containers, c)
	}
	_, err := n.cri.CheckpointPod(n.ctx, &runtime.CheckpointPodRequest{PodSandboxId: sandbox, OutputPath: dir, ContainerIds: ids})
	n.must(err)
	return sandbox, pod, containers, ids
}

// restore asks for a pod of the checkpoint in dir.
func (n *node) restore(dir string, pod *runtime.PodSandboxConfig, handler string, containers []*runtime.ContainerConfig) (*runtime.RestorePodResponse, error) {
	return n.cri.RestorePod(n.ctx, &runtime.RestorePodRequest{CheckpointPath: dir, Config: pod, RuntimeHandler: handler, ContainerConfigs: containers})
}

// restoredPod restores the counters into a pod of another name and uid, and checks that they
// take up where they were.
func (n *node) restoredPod(handler string) {
	n.Helper()
	dir := n.TempDir()
	sandbox, pod, containers, ids := n.checkpointed(dir, "before", handler)
	end := map[string]int{} // what each has counted to since
	for _, c := range containers {
		_, last := n.counted(pod, c, 0)
		_, end[c.Metadata.Name] = n.counted(pod, c, last+2) // it goes on
	}
	files := harness.Must(os.ReadDir(dir))(n)
	if len(files) != len(ids) {
		n.Errorf("the checkpoint is %v", files)
	}
	at := map[string]int{} // what each had counted to at least
	for i, c := range containers {
		log := parts(n, filepath.Join(dir, ids[i]+".tar"))["container.log"]
		at[c.Metadata.Name] = strings.Count(log, "\n") - 1
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))

	after := n.Pod("after")
	answer := harness.Must(n.restore(dir, after, handler, containers))(n)
	if len(answer.RestoredContainers) != len(containers) {
		n.Fatalf("restored %v", answer)
	}
	for i, c := range containers {
		restored := answer.RestoredContainers[i]
		if restored.Name != c.Metadata.Name {
			n.Errorf("container %d is %q, want %q", i, restored.Name, c.Metadata.Name)
		}
		if s := harness.Must(n.cri.Status(n.ctx, restored.ContainerId))(n); s.State != runtime.ContainerState_CONTAINER_CREATED {
			n.Errorf("%s is %s before its start", restored.Name, s.State)
		}
		if log, err := os.ReadFile(harness.LogPath(after, c)); err != nil || len(log) != 0 {
			n.Errorf("%s has run before its start: %q, %v", restored.Name, log, err)
		}
	}
	for i, c := range containers {
		id := answer.RestoredContainers[i].ContainerId
		n.must(n.cri.Start(n.ctx, id))
		first, _ := n.counted(after, c, at[c.Metadata.Name]+5)
		// What was in the pipe at the checkpoint is in the old log only.
		if first <= at[c.Metadata.Name] || first > end[c.Metadata.Name]+1 {
			n.Errorf("%s begins at %d; its log of then ends with %d, the whole log with %d", c.Metadata.Name, first, at[c.Metadata.Name], end[c.Metadata.Name])
		}
		out := harness.Must(n.cri.Exec(n.ctx, id, 20, "/bin/sh", "-c", "cat /kept; test -e /bin/payload || echo gone; hostname"))(n)
		if string(out.Stdout) != "kept\ngone\nafter\n" {
			n.Errorf("exec in %s says %q, %q", c.Metadata.Name, out.Stdout, out.Stderr)
		}
		// What was restored can be checkpointed again, and goes on.
		_, err := n.cri.CheckpointContainer(n.ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: filepath.Join(dir, "again.tar")})
		n.must(err)
		_, last := n.counted(after, c, 0)
		n.counted(after, c, last+2)
		n.must(n.cri.Stop(n.ctx, id, 20))
		if end := harness.Must(n.cri.Status(n.ctx, id))(n); end.ExitCode != 7 {
			n.Errorf("%s: exit code %d, want 7", c.Metadata.Name, end.ExitCode)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, answer.PodSandboxId))
	n.nothingLeft()
}

func TestRestoredPodGoesOnWhereItWas(t *testing.T) {
	withCriu(t).restoredPod("")
}

func TestRestoredPodOfAnExternalRuntimeGoesOnWhereItWas(t *testing.T) {
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime]\ncriu_path = %q\n[runtime.handlers.runc]\npath = %q\n", criu(t), runc(t)), Handler: harness.NativeHandler, LogLevel: "info"})
	n.ctx = harness.Context(t, 8*time.Minute)
	n.restoredPod("runc")
}

// What does not fit is refused, names what, and leaves nothing; the same checkpoint can
// be restored afterwards.
func TestRestoreOfWhatDoesNotFitIsRefusedAndLeavesNothing(t *testing.T) {
	n := withCriu(t)
	good := t.TempDir()
	sandbox, pod, containers, ids := n.checkpointed(good, "fits", "")
	for name, c := range map[string]struct {
		change func(*runtime.CheckpointPodRequest)
		code   codes.Code
	}{
		"a directory that is not empty": {func(r *runtime.CheckpointPodRequest) { r.OutputPath = good }, codes.InvalidArgument},
		"a container twice":             {func(r *runtime.CheckpointPodRequest) { r.ContainerIds = []string{ids[0], ids[0]} }, codes.InvalidArgument},
		"an option":                     {func(r *runtime.CheckpointPodRequest) { r.Options = map[string]string{"fast": "yes"} }, codes.InvalidArgument},
		"an unknown pod":                {func(r *runtime.CheckpointPodRequest) { r.PodSandboxId = "none" }, codes.NotFound},
	} {
		request := &runtime.CheckpointPodRequest{PodSandboxId: sandbox, OutputPath: t.TempDir(), ContainerIds: ids}
		dir := request.OutputPath
		c.change(request)
		if _, err := n.cri.CheckpointPod(n.ctx, request); status.Code(err) != c.code {
			t.Errorf("checkpoint: %s: %v", name, err)
		}
		if left := harness.Must(os.ReadDir(dir))(t); len(left) != 0 {
			t.Errorf("checkpoint: %s left %v", name, left)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()

	clone := func(change func(one *runtime.ContainerConfig)) []*runtime.ContainerConfig {
		all := []*runtime.ContainerConfig{proto.Clone(containers[0]).(*runtime.ContainerConfig), proto.Clone(containers[1]).(*runtime.ContainerConfig)}
		change(all[0])
		return all
	}
	same := func(*runtime.ContainerConfig) {}
	for name, c := range map[string]struct {
		containers []*runtime.ContainerConfig
		change     func(*runtime.RestorePodRequest)
		want       string
	}{
		"another name":    {clone(func(c *runtime.ContainerConfig) { c.Metadata.Name = "three" }), nil, `["one" "two"]`},
		"one left out":    {containers[:1], nil, `["one" "two"]`},
		"another command": {clone(func(c *runtime.ContainerConfig) { c.Command = []string{"/bin/sh"} }), nil, "command"},
		"more rights": {clone(func(c *runtime.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &runtime.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
		}), nil, "capabilities"},
		"read-only root": {clone(func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }), nil, "read-only root"},
		"another mount": {clone(func(c *runtime.ContainerConfig) {
			c.Mounts = []*runtime.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
		}), nil, "mounts"},
		"a terminal":       {clone(func(c *runtime.ContainerConfig) { c.Tty = true }), nil, "terminal"},
		"an option":        {clone(same), func(r *runtime.RestorePodRequest) { r.Options = map[string]string{"fast": "yes"} }, "unknown option"},
		"no checkpoint":    {clone(same), func(r *runtime.RestorePodRequest) { r.CheckpointPath = t.TempDir() }, "the checkpoint is of the containers []"},
		"unknown handler":  {clone(same), func(r *runtime.RestorePodRequest) { r.RuntimeHandler = "none" }, "unknown runtime handler"},
		"no tar archive":   {clone(same), func(r *runtime.RestorePodRequest) { r.CheckpointPath = n.spoilt(good, "text") }, "no plain tar archive"},
		"a part cut off":   {clone(same), func(r *runtime.RestorePodRequest) { r.CheckpointPath = n.spoilt(good, "half") }, "no plain tar archive"},
		"a link as a part": {clone(same), func(r *runtime.RestorePodRequest) { r.CheckpointPath = n.spoilt(good, "link") }, "read checkpoint"},
	} {
		request := &runtime.RestorePodRequest{CheckpointPath: good, Config: n.Pod("refused"), ContainerConfigs: c.containers}
		if c.change != nil {
			c.change(request)
		}
		_, err := n.cri.RestorePod(n.ctx, request)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(status.Convert(err).Message(), "\n") {
			t.Errorf("restore: %s: %v, want %q", name, err, c.want)
		}
		n.nothingLeft()
	}
	// The first attempt's pod takes the place of a second one with the same name.
	pod = n.Pod("once")
	answer := harness.Must(n.restore(good, pod, "", containers))(t)
	if _, err := n.restore(good, pod, "", containers); status.Code(err) != codes.AlreadyExists {
		t.Errorf("restored twice: %v", err)
	}
	n.must(n.cri.RemovePod(n.ctx, answer.PodSandboxId))
	n.nothingLeft()
}

// spoilt is a copy of a checkpoint whose first archive is of no use.
func (n *node) spoilt(good, how string) string {
	n.Helper()
	dir := n.TempDir()
	for i, e := range harness.Must(os.ReadDir(good))(n) {
		from, to := filepath.Join(good, e.Name()), filepath.Join(dir, e.Name())
		raw := harness.Must(os.ReadFile(from))(n)
		switch {
		case i > 0:
		case how == "text":
			raw = []byte("this is a text\n")
		case how == "half":
			raw = raw[:len(raw)/2]
		case how == "link":
			n.must(os.Symlink(from, to))
			continue
		}
		n.must(os.WriteFile(to, raw, 0o600))
	}
	return dir
}
