package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// A stop whose monitor is killed while it waits for the container goes on with the next
// monitor, and the exit code is the container's own.
func TestStopSurvivesTheDeathOfTheMonitor(t *testing.T) {
	n := start(t, harness.Options{})
	p := n.HostPod("bereaved")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	// It ends only when the file is there, so that the monitor's death is always before.
	c := harness.Container(p, "c", n.image, "/bin/sh", "-c", "trap 'echo asked; while ! [ -e /go ]; do sleep 0.05; done; exit 23' TERM; echo up; while :; do sleep 0.05; done")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
	waitLog(t, p, c, "up")
	init := initPID(t, n, id)
	stopped := make(chan error, 1)
	go func() { stopped <- n.cri.Stop(n.ctx, id, 100) }()
	waitLog(t, p, c, "asked")
	monitor := n.monitorOf(id)
	kill9(n, monitor)
	deadline := time.Now().Add(harness.Scale(30 * time.Second))
	for pid := 0; pid == 0 || pid == monitor; pid = findProcess("vitrine-monitor", filepath.Join(n.State(), "containers", id)) {
		if time.Now().After(deadline) {
			t.Fatal("no other monitor came")
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/go", init), nil, 0o644))
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if end := harness.Must(n.cri.Status(n.ctx, id))(t); end.State != runtime.ContainerState_CONTAINER_EXITED || end.ExitCode != 23 {
		t.Errorf("the container is %v with code %d, want it to have exited with 23", end.State, end.ExitCode)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// A monitor that lives and does not answer when the daemon comes back keeps its container:
// it is neither declared gone nor waited for by others, and goes on when it can.
func TestMonitorThatDoesNotAnswerANewDaemonKeepsItsContainer(t *testing.T) {
	n := start(t, harness.Options{})
	p := n.HostPod("slow")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	still, c := n.run(sandbox, p, "still", "/bin/sh", "-c", "trap 'echo asked; exit 17' TERM; echo up; while :; do sleep 0.05; done")
	other, _ := n.run(sandbox, p, "other", "/bin/sleep", "1000")
	waitLog(t, p, c, "up")
	init, monitor := initPID(t, n, still), n.monitorOf(still)
	n.must(n.Kill9())
	n.must(syscall.Kill(monitor, syscall.SIGSTOP))
	defer syscall.Kill(monitor, syscall.SIGCONT)
	n.must(n.Start(n.ctx))

	for _, id := range []string{still, other} {
		if s := harness.Must(n.cri.Status(n.ctx, id))(t); s.State != runtime.ContainerState_CONTAINER_RUNNING {
			t.Errorf("container %.13s is %v, want it to run", id, s.State)
		}
	}
	if out := harness.Must(n.cri.Exec(n.ctx, other, 60, "/bin/echo", "in"))(t); string(out.Stdout) != "in\n" {
		t.Errorf("exec in the other container: %q, code %d", out.Stdout, out.ExitCode)
	}
	if now := n.monitorOf(still); now != monitor {
		t.Errorf("monitor %d was given up for %d", monitor, now)
	}
	if err := syscall.Kill(init, 0); err != nil {
		t.Errorf("the container of the monitor that does not answer: %v", err)
	}

	n.must(syscall.Kill(monitor, syscall.SIGCONT))
	deadline := time.Now().Add(harness.Scale(60 * time.Second))
	for {
		if _, err := n.cri.Exec(n.ctx, still, 60, "/bin/true"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the monitor was not found again: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	n.must(n.cri.Stop(n.ctx, still, 100))
	if end := harness.Must(n.cri.Status(n.ctx, still))(t); end.ExitCode != 17 {
		t.Errorf("exit code %d, want 17", end.ExitCode)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// A creation whose OCI runtime does not come back holds up that container alone.
func TestCreationThatHangsHoldsUpNobody(t *testing.T) {
	release := filepath.Join(t.TempDir(), "release")
	hangs := filepath.Join(t.TempDir(), "hangs")
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in *' create '*) while ! [ -e %q ]; do sleep 0.1; done;; esac\nexec %q \"$@\"\n", release, runc(t))
	if err := os.WriteFile(hangs, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime.handlers.hangs]\npath = %q\n", hangs)})
	stuck, well := n.HostPod("stuck"), n.HostPod("well")
	sandbox := harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: stuck, RuntimeHandler: "hangs"}))(t).PodSandboxId
	made := make(chan error, 1)
	go func() {
		_, err := n.cri.Run(n.ctx, sandbox, stuck, harness.Container(stuck, "c", n.image, "/bin/sleep", "1000"))
		made <- err
	}()
	deadline := time.Now().Add(harness.Scale(30 * time.Second))
	for findProcess(hangs, " create ") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the runtime was not run")
		}
		time.Sleep(10 * time.Millisecond)
	}

	beside := harness.Must(n.cri.RunPod(n.ctx, well))(t)
	id, _ := n.run(beside, well, "c", "/bin/sleep", "1000")
	if out := harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/echo", "in"))(t); string(out.Stdout) != "in\n" {
		t.Errorf("exec: %q, code %d", out.Stdout, out.ExitCode)
	}
	if list := harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{}))(t); len(list.Containers) != 1 {
		t.Errorf("%d containers are listed, want the one that is made", len(list.Containers))
	}
	harness.Must(n.cri.PodSandboxStatus(n.ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: sandbox}))(t)
	harness.Must(n.cri.ListContainerStats(n.ctx, &runtime.ListContainerStatsRequest{}))(t)
	n.must(n.cri.RemovePod(n.ctx, beside))
	select {
	case err := <-made:
		t.Errorf("the creation did not hang: %v", err)
	default:
	}

	n.must(os.WriteFile(release, nil, 0o644))
	if err := <-made; err != nil {
		t.Errorf("the creation, when its runtime came back: %v", err)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
