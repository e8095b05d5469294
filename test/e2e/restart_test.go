package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestContainersLiveThroughADeadDaemon(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.Pod("survivor")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	stays, _ := n.run(sandbox, pod, "stays", "/bin/payload", "wait")
	writer, w := n.run(sandbox, pod, "writer", "/bin/payload", "lines", "20000", "40", "10000")
	ends, _ := n.run(sandbox, pod, "ends", "/bin/sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done; sleep 0.3; exit 42")
	killed, _ := n.run(sandbox, pod, "killed", "/bin/sleep", "600")
	before := harness.Must(n.cri.PodStatus(n.ctx, sandbox))(t)
	pid := initPID(t, n, stays)
	ending, victim := initPID(t, n, ends), initPID(t, n, killed)

	n.must(n.Kill9())
	deadFrom := time.Now()
	n.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/end", ending), nil, 0o644))
	n.must(syscall.Kill(victim, syscall.SIGKILL))
	for _, pid := range []int{ending, victim} { // both end while nobody looks
		waitGone(t, pid)
	}
	n.must(n.Start(n.ctx))
	backAt := time.Now()

	for id, code := range map[string]int32{ends: 42, killed: 137} {
		s := harness.Must(n.cri.Status(n.ctx, id))(t)
		if s.State != runtime.ContainerState_CONTAINER_EXITED || s.ExitCode != code {
			t.Errorf("%s: %v, exit code %d, want %d", s.Metadata.Name, s.State, s.ExitCode, code)
		}
		if at := time.Unix(0, s.FinishedAt); at.Before(deadFrom) || at.After(backAt) {
			t.Errorf("%s: finished at %v, not while the daemon was dead (%v to %v)", s.Metadata.Name, at, deadFrom, backAt)
		}
	}
	if now := initPID(t, n, stays); now != pid {
		t.Errorf("the container's pid was %d and is %d", pid, now)
	}
	after := harness.Must(n.cri.PodStatus(n.ctx, sandbox))(t)
	if before.String() != after.String() {
		t.Errorf("the sandbox's status changed:\n%v\n%v", before, after)
	}
	if r := harness.Must(n.cri.Exec(n.ctx, stays, 10, "echo", "alive"))(t); string(r.Stdout) != "alive\n" {
		t.Errorf("exec after the restart: %q", r.Stdout)
	}
	if s := harness.Must(n.cri.WaitExit(n.ctx, writer))(t); s.ExitCode != 0 {
		t.Errorf("the writer's exit code: %d", s.ExitCode)
	}
	log := harness.Must(harness.ReadLog(harness.LogPath(pod, w)))(t)
	checkLines(t, log.Stdout, 20000)

	again := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	if again != sandbox {
		t.Errorf("the same request after the restart made another sandbox")
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestCleanStopLeavesContainersRunning(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("kept")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "/bin/payload", "wait")
	pid := initPID(t, n, id)
	n.must(n.Stop())
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the container did not outlive the daemon: %v", err)
	}
	n.must(n.Start(n.ctx))
	if s := harness.Must(n.cri.Status(n.ctx, id))(t); s.State != runtime.ContainerState_CONTAINER_RUNNING {
		t.Errorf("after the restart: %v", s.State)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// waitGone waits until a process has ended and was waited for.
func waitGone(t testing.TB, pid int) {
	t.Helper()
	deadline := time.Now().Add(harness.Scale(10 * time.Second))
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not end", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// initPID is the container's PID 1 as the host sees it.
func initPID(t testing.TB, n *node, id string) int {
	t.Helper()
	s := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t)
	pid, err := infoPID(s.Info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		t.Fatalf("pid of the verbose status: %v", err)
	}
	return pid
}

// checkLines fails unless the text is the payload's first n lines, each once, in order.
func checkLines(t testing.TB, text []byte, n int) {
	t.Helper()
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	for i, line := range lines {
		if want := fmt.Sprintf("%010d", i); len(line) < 10 || string(line[:10]) != want {
			t.Fatalf("line %d of %d is %.40q", i, len(lines), line)
		}
	}
	if len(lines) != n {
		t.Errorf("%d lines, want %d", len(lines), n)
	}
}

// infoPID is the pid in the JSON of a verbose status.
func infoPID(info map[string]string) (int, error) {
	var v struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(info["info"]), &v); err != nil {
		return 0, fmt.Errorf("verbose info %q: %w", info, err)
	}
	if v.PID == 0 {
		return 0, fmt.Errorf("verbose info has no pid: %q", info)
	}
	return v.PID, nil
}
