package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// createdBy is who made a container, as its verbose status says.
func (n *node) createdBy(id string) string {
	n.Helper()
	status := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(n)
	var info struct{ CreatedBy string }
	n.must(json.Unmarshal([]byte(status.Info["info"]), &info))
	return info.CreatedBy
}

// The first container of a seccomp profile is libcontainer's, then the ordinary ones are not; what is not
// ordinary is, and so is everything where the administrator wants it.
func TestOrdinaryContainersAreMadeWithoutLibcontainer(t *testing.T) {
	n := start(t, harness.Options{})
	if n.Options.Handler != harness.NativeHandler {
		t.Skip("another runtime makes all containers")
	}
	pod := n.HostPod("ways")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	run := func(name string, change func(*runtime.ContainerConfig)) string {
		c := harness.Container(pod, name, n.image, "/bin/payload", "wait")
		change(c)
		return harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	}
	ordinary := func(*runtime.ContainerConfig) {}
	if by := n.createdBy(run("first", ordinary)); by != "libcontainer" {
		t.Errorf("the first one was made by %q", by)
	}
	// The filter is learnt after the answer.
	deadline := time.Now().Add(time.Minute)
	for i := 0; ; i++ {
		name := "ordinary-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		if n.createdBy(run(name, ordinary)) == "enter" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("ordinary containers are libcontainer's after a minute")
		}
	}
	if by := n.createdBy(run("terminal", func(c *runtime.ContainerConfig) { c.Tty = true })); by != "libcontainer" {
		t.Errorf("one with a terminal was made by %q", by)
	}
	page := harness.Must(n.Metrics())(t)
	for _, want := range []string{`vitrine_container_creations_total{outcome="ok",way="enter"} 1`, `vitrine_container_creations_total{outcome="ok",way="libcontainer"}`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s on the page", want)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestLibcontainerMakesAllWhereTheAdministratorWantsThat(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nlibcontainer_only = true\n"})
	if n.Options.Handler != harness.NativeHandler {
		t.Skip("another runtime makes all containers")
	}
	pod := n.HostPod("way")
	pod.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Unconfined}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/payload", "wait")
	c.Linux.SecurityContext.Seccomp = pod.Linux.SecurityContext.Seccomp // it needs no filter to be known
	if by := n.createdBy(harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)); by != "libcontainer" {
		t.Errorf("it was made by %q", by)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// A daemon's ordinary containers are born from a namespace of few mounts, whatever the host has.
func TestOrdinaryContainersAreBornFromFewMounts(t *testing.T) {
	n := start(t, harness.Options{})
	if n.Options.Handler != harness.NativeHandler {
		t.Skip("another runtime makes all containers")
	}
	pod := n.HostPod("few")
	pod.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Unconfined}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	volume := t.TempDir()
	n.must(unix.Mount("volume", volume, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { _ = unix.Unmount(volume, unix.MNT_DETACH) })
	n.must(os.WriteFile(filepath.Join(volume, "file"), []byte("in the volume"), 0o644))
	c := harness.Container(pod, "c", n.image, "/bin/payload", "wait")
	c.Linux.SecurityContext.Seccomp = pod.Linux.SecurityContext.Seccomp // it needs no filter to be known
	c.Mounts = []*runtime.Mount{{ContainerPath: "/volume", HostPath: volume}}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	if by := n.createdBy(id); by != "enter" {
		t.Errorf("it was made by %q", by)
	}
	out := harness.Must(n.cri.Exec(n.ctx, id, 60, "cat", "/volume/file"))(t)
	if string(out.Stdout) != "in the volume" {
		t.Errorf("the volume has %q, %s", out.Stdout, out.Stderr)
	}
	var request struct{ Bare string }
	n.must(json.Unmarshal(harness.Must(os.ReadFile(filepath.Join(n.State(), "containers", id, "launch.json")))(t), &request))
	mounts := harness.Must(mountsOf(request.Bare))(t)
	if len(mounts) == 0 || slices.Contains(mounts, volume) || slices.ContainsFunc(mounts, func(at string) bool { return strings.HasPrefix(at, n.State()) }) {
		t.Errorf("it was born from %q, where %q is mounted", request.Bare, mounts)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// mountsOf are the mount points of the namespace at path.
func mountsOf(path string) (points []string, err error) {
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(fd, unix.CLONE_NEWNS), unix.Close(fd))
		}
		if err != nil {
			done <- err
			return
		}
		raw, err := os.ReadFile("/proc/thread-self/mountinfo")
		for line := range strings.Lines(string(raw)) {
			points = append(points, strings.Fields(line)[4])
		}
		done <- err
	}()
	err = <-done
	return points, err
}
