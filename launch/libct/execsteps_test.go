package libct_test

import (
	"encoding/json"
	"slices"
	"syscall"
	"testing"

	"github.com/vitrine-runtime/vitrine/launch"
)

func TestStepsExplainTheExecAndTheDelete(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	b.spec.Linux.Seccomp = ordinaryProfile(t)
	b.create()
	b.start()
	raw, err := json.Marshal(b.process("true"))
	b.must(err)
	reply := b.run(launch.Request{Op: launch.OpExec, Process: raw}, nil, nil, nil)
	if reply.Error != nil {
		t.Fatal(reply.Error)
	}
	explained(t, reply, "launch.init", "launch.request", "libct.spec", "libct.load", "libct.seal", "libct.spawn", "libct.namespaces",
		"libct.boot", "libct.cgroup", "libct.limits", "libct.credentials", "libct.seccomp", "libct.ready", "libct.exec", "launch.reply")
	b.wait(reply.PID)
	b.must(syscall.Kill(b.pid, syscall.SIGKILL))
	b.wait(b.pid)
	explained(t, b.run(launch.Request{Op: launch.OpDelete}, nil, nil, nil),
		"launch.init", "launch.request", "libct.load", "libct.kill", "libct.delete", "launch.reply")
}

func TestFailedCreateSaysWhereItsTimeWent(t *testing.T) {
	b := newBox(t, "nosuch")
	if e := b.tryCreate(); e == nil || e.Step != "libct.credentials" {
		t.Fatalf("got %+v", e)
	}
	explained(t, b.reply, "launch.init", "launch.request", "libct.spec", "libct.config", "libct.seal", "libct.spawn", "libct.cgroup",
		"libct.namespaces", "libct.boot", "libct.rootfs", "libct.limits", "libct.pivot", "libct.state", "libct.credentials", "libct.undo", "launch.reply")
}

// explained fails the test unless a reply has just these steps, without a gap.
func explained(t *testing.T, r launch.Reply, want ...string) {
	t.Helper()
	var names []string
	for i, s := range r.Steps {
		names = append(names, s.Name)
		if i > 0 && s.Start != r.Steps[i-1].End {
			t.Errorf("a gap before %s", s.Name)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
}
