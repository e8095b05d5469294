package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// runc is the path of Debian's runc, which test/packages installs.
func runc(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("runc")
	if err != nil {
		t.Fatalf("the Debian package runc is missing: %v", err)
	}
	return path
}

func TestExternalRuntimeIsMonitoredAndTracedTheSameWay(t *testing.T) {
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime.handlers.runc]\npath = %q\n", runc(t))})
	pod := n.Pod("external")
	sandbox := harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: "runc"}))(t).PodSandboxId
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "echo out; echo err >&2; trap 'exit 6' TERM; while :; do sleep 0.05; done")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "err")
	out := harness.Must(n.cri.Exec(n.ctx, id, 20, "/bin/sh", "-c", "echo in; exit 3"))(t)
	if string(out.Stdout) != "in\n" || out.ExitCode != 3 {
		t.Errorf("exec gave %q, code %d", out.Stdout, out.ExitCode)
	}
	n.must(n.cri.Stop(n.ctx, id, 20))
	if end := harness.Must(n.cri.Status(n.ctx, id))(t); end.ExitCode != 6 {
		t.Errorf("exit code %d, want 6", end.ExitCode)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// A program may be done before the runtime that started it has said so. The start has
// succeeded all the same, and the exit is the program's own.
func TestProgramThatIsFasterThanItsRuntimeWasStarted(t *testing.T) {
	slow := filepath.Join(t.TempDir(), "slow-runc")
	script(t, slow, fmt.Sprintf(`%s "$@"
status=$?
case " $* " in *" start "*) while kill -0 $(cat "$(dirname "$0")/wait") 2>/dev/null; do sleep 0.05; done;; esac
exit $status`, runc(t)))
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime.handlers.slow]\npath = %q\n", slow)})
	pod := n.HostPod("fast")
	sandbox := harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: "slow"}))(t).PodSandboxId
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "echo done; exit 5")
	id := harness.Must(n.cri.Create(n.ctx, sandbox, pod, c))(t)
	pid := initPID(t, n, id)
	n.must(os.WriteFile(filepath.Join(filepath.Dir(slow), "wait"), fmt.Append(nil, pid), 0o644))
	if err := n.cri.Start(n.ctx, id); err != nil {
		t.Fatalf("start: %v", err)
	}
	if end := harness.Must(n.cri.WaitExit(n.ctx, id))(t); end.ExitCode != 5 || end.Reason != "Error" || end.StartedAt == 0 {
		t.Errorf("exit code %d, reason %q, started at %d", end.ExitCode, end.Reason, end.StartedAt)
	}
	n.stdout(pod, c, "done\n")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
