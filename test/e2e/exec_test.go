package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestExecOfWhatCannotBeExecutedIsAnExitCodeWithItsCause(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("exec")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, harness.Container(pod, "c", n.image, "/bin/payload", "wait")))(t)
	for command, want := range map[string]struct {
		code  int32
		cause string
	}{
		"no-such-command": {127, "not found"},
		"/no/such/path":   {127, "no such file"},
		"/etc":            {126, "is a directory"},
		"/etc/passwd":     {126, "permission denied"},
		"/bin/true":       {0, ""},
	} {
		answer, err := n.cri.Exec(n.ctx, id, 60, command)
		if n.Options.Handler == "crun" { // its own words
			switch command {
			case "/etc":
				want.cause = "not permitted"
			case "/etc/passwd":
				want.cause = "permi" // permission denied or not permitted, by its version
			}
		}
		said := strings.ToLower(string(answer.GetStderr()))
		if err != nil || answer.GetExitCode() != want.code || !strings.Contains(said, want.cause) || len(answer.GetStdout()) > 0 {
			t.Errorf("%s: %v, %v; want %d and %q", command, answer, err, want.code, want.cause)
		}
	}

	// A timeout leaves nothing of the tree, not even for the next exec to see.
	_, err := n.cri.Exec(n.ctx, id, 1, "/bin/sh", "-c", "sleep 4321 & (sleep 4321 & sleep 4321) & wait")
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("timeout: %v", err)
	}
	answer, err := n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline")
	if err != nil || strings.Contains(string(answer.GetStdout()), "4321") {
		t.Errorf("left behind: %q, %v", answer.GetStdout(), err)
	}

	// Who looks closely sees what execs have cost.
	verbose := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t)
	var info struct {
		Monitor struct{ Execs, ExecFailed, ExecStartNanos, ExecCPUNanos, LaunchCPUNanos uint64 }
	}
	if err := json.Unmarshal([]byte(verbose.GetInfo()["info"]), &info); err != nil {
		t.Fatal(err)
	}
	if m := info.Monitor; m.Execs != 7 || m.ExecFailed != 4 || m.ExecStartNanos == 0 || m.ExecCPUNanos == 0 || m.LaunchCPUNanos == 0 {
		t.Errorf("the monitor counted %+v", m)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestExecPastItsTimeLeavesNoDaemonBehind(t *testing.T) {
	n := start(t, harness.Options{})
	if n.Options.Handler != harness.NativeHandler {
		t.Skip("an external runtime's exec has no subreaper: what has daemonised itself is not known to be the exec's")
	}
	pod := n.HostPod("overtime")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "/bin/payload", "wait")
	const mark = "86347" // seconds that nobody else sleeps
	_, err := n.cri.Exec(n.ctx, id, 2, "/bin/sh", "-c", "setsid sh -c 'sleep "+mark+" & exit' & setsid sh -c 'setsid sh -c \"sleep "+mark+" & exit\" & exit' & sleep "+mark)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("exec: %v", err)
	}
	deadline := time.Now().Add(harness.Scale(10 * time.Second))
	for pid := 1; pid != 0; {
		if pid = findProcess("sleep " + mark); pid != 0 && time.Now().After(deadline) {
			t.Fatalf("process %d of the exec is left", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
