package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

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
