package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// vitrine runs the command of this build against the daemon and returns what it printed.
func (n *node) vitrine(args ...string) string {
	n.Helper()
	cmd := exec.CommandContext(n.ctx, filepath.Join(harness.Must(harness.Bin())(n), "vitrine"), slices.Concat(args[:1], []string{"--api", n.API()}, args[1:])...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		n.Fatalf("vitrine %q: %v: %s", args, err, problems.String())
	}
	return string(out)
}

// What a person asks of running containers is answered by the commands themselves.
func TestAPersonSeesUsageLogsAndWhatIsWaitedFor(t *testing.T) {
	n := start(t, harness.Options{Env: []string{"VITRINE_FAULTS=image.rootfs.mount=sleep(3s)"}})
	pod := n.Pod("shown")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	done := make(chan string)
	go func() {
		id, err := n.cri.Run(n.ctx, sandbox, pod, harness.Container(pod, "app", n.image, "/bin/sh", "-c", "echo hello; echo trouble >&2; while :; do :; done"))
		if err != nil {
			t.Error(err)
		}
		done <- id
	}()
	waited := false
	var status api.Status
	for id := ""; id == ""; {
		select {
		case id = <-done:
		case <-time.After(20 * time.Millisecond):
			n.must(json.Unmarshal([]byte(n.vitrine("status", "-o", "json")), &status))
			for _, op := range status.Operations {
				waited = waited || op.Subject == "test/shown/app" && op.Blocked != nil && op.Blocked.On == "image.rootfs.mount" && !op.Blocked.Since.IsZero()
			}
		}
	}
	if !waited {
		t.Errorf("the mount that took 3 s was never what was waited for; at last: %+v", status.Operations)
	}
	var top []struct {
		Pod, Container string
		CPUs           float64
		Memory, Tasks  uint64
	}
	n.must(json.Unmarshal([]byte(n.vitrine("top", "-o", "json")), &top))
	if len(top) != 1 || top[0].Pod != "test/shown" || top[0].Container != "app" || top[0].CPUs <= 0 || top[0].Memory == 0 || top[0].Tasks == 0 {
		t.Errorf("top says %+v", top)
	}
	if out := n.vitrine("logs", "test/shown"); out != "hello\n" {
		t.Errorf("logs say %q", out)
	}
	if out := n.vitrine("events"); !strings.Contains(out, "test/shown/app") {
		t.Errorf("events say %q", out)
	}
	if out := n.vitrine("__complete", "why", "test/sh"); !strings.HasPrefix(out, "test/shown\ntest/shown/app\n") {
		t.Errorf("completion says %q", out)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	if out := n.vitrine("logs", "test/shown/app"); out != "hello\n" {
		t.Errorf("of a pod that is gone, whose log is there, logs say %q", out)
	}
	n.nothingLeft()
}
