package oom_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
)

func sent(number unix.Signal, kernel bool, sender ebpf.Task) *oom.Record {
	return &oom.Record{Kind: ebpf.Signal, Time: 10 * second, Cgroup: self, Task: initTask(), Init: true,
		Signal: &ebpf.Sent{Number: number, Kernel: kernel, Sender: sender}}
}

func TestEndNamesTheSender(t *testing.T) {
	at := time.Unix(1000, 0)
	stop := &pod.Stop{At: at.Add(-2 * second), Signal: "SIGTERM", Grace: 30 * second, Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	over := *stop
	over.KilledAt, over.Grace = at.Add(-time.Millisecond), 2*second
	root := ebpf.Task{PID: 900, TGID: 900, Comm: "bash"}
	for _, c := range []struct {
		name   string
		ending oom.Ending
		from   string
		says   string
	}{
		{"host", oom.Ending{Signal: 9, Observed: true, Sent: sent(9, false, root), From: pod.FromHost}, pod.FromHost, `SIGKILL from "bash" on the host (pid 900, uid 0)`},
		{"child", oom.Ending{Signal: 15, Observed: true, Sent: sent(15, false, child()), From: pod.FromContainer}, pod.FromContainer, `SIGTERM from "worker" in the container (pid 8`},
		{"sibling", oom.Ending{Signal: 9, Observed: true, Sent: sent(9, false, root), From: pod.FromOther, Name: "container x of pod a/b"}, pod.FromOther, "in container x of pod a/b"},
		{"itself", oom.Ending{Signal: 6, Observed: true, Sent: sent(6, false, initTask()), CoreDumped: true}, pod.FromSelf, "itself; core dumped"},
		{"fault", oom.Ending{Signal: 11, Observed: true, Sent: sent(11, true, initTask())}, pod.FromKernel, "a fault at address 0x0"},
		{"seccomp", oom.Ending{Signal: 31, Observed: true, Sent: sent(31, true, initTask())}, pod.FromKernel, "does not allow the system call"},
		{"an earlier signal does not explain a later one", oom.Ending{Signal: 9, Observed: true, Sent: sent(15, false, root)}, "", "not recorded"},
		{"nor an exit", oom.Ending{ExitCode: 1, Observed: true, Sent: sent(15, false, root)}, "", ""},
		{"stop, in time", oom.Ending{At: at, Observed: true, Stop: stop}, "", "exited with 0 2s after StopContainer sent SIGTERM, within the grace period of 30s (trace 0af7651916cd43dd8448eb211c80319c)"},
		{"stop, too late", oom.Ending{Signal: 9, At: at, Observed: true, Sent: sent(9, false, root), From: pod.FromRuntime, Stop: &over}, pod.FromRuntime, "the grace period of 2s after SIGTERM expired (trace"},
		{"somebody else while stopping", oom.Ending{Signal: 9, At: at, Observed: true, Sent: sent(9, false, root), From: pod.FromHost, Stop: stop}, pod.FromHost, "on the host (pid 900, uid 0), while StopContainer waited"},
		{"an exit after the kill was decided is no kill", oom.Ending{At: at, Stop: &over}, "", "exited with 0 2s after StopContainer sent SIGTERM (trace"},
		{"unobserved", oom.Ending{Signal: 9, At: at}, "", "was not observed"},
	} {
		message, sender := oom.End(c.ending)
		from := ""
		if sender != nil {
			from = sender.From
		}
		if from != c.from || !strings.Contains(message, c.says) || c.says == "" && message != "" {
			t.Errorf("%s: from %q: %q", c.name, from, message)
		}
	}
}

func TestOnlyTheRuntimesOwnProcessesSpeakForIt(t *testing.T) {
	for _, c := range []struct {
		sender ebpf.Task
		kernel bool
		want   bool
	}{
		{ebpf.Task{TGID: 41, Comm: "x"}, false, true},
		{ebpf.Task{TGID: 7, Comm: "vitrine-monitor"}, false, true},
		{ebpf.Task{TGID: 7, Comm: "bash"}, false, false},
		{ebpf.Task{TGID: 41, Comm: "x"}, true, false},
	} {
		if got := oom.OfRuntime(sent(9, c.kernel, c.sender), 0, 41); got != c.want {
			t.Errorf("%+v kernel %v: %v", c.sender, c.kernel, got)
		}
	}
}

func TestPID1ThatSharedTheVictimsMemory(t *testing.T) {
	k := kill(child(), func(k *ebpf.OOMKill) { k.Trigger = child() })
	s := sent(9, true, child())
	s.Time = k.Time + 20*time.Microsecond
	last := ofChild(k)
	last.InitSignal = s
	e := oom.Evidence{Observed: true, Last: last, Signal: 9, ExitCode: 137}
	if v := oom.Verdict(e); v.Reason != oom.Killed || !strings.Contains(v.Message, "shared with PID 1") {
		t.Errorf("%+v", v)
	}
	s.Signal.Sender = ebpf.Task{PID: 55, TGID: 55}
	if v := oom.Verdict(e); v.Reason != "" {
		t.Errorf("a kill by somebody else: %+v", v)
	}
}

func TestSwapThatIsUsedUpIsTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit func(*ebpf.OOMKill)
		says  bool
	}{
		{"v2, full", func(k *ebpf.OOMKill) { k.Swapped, k.SwapUsage, k.SwapLimit = 8*mib, 9*mib, 10*mib }, true},
		{"v2, room left", func(k *ebpf.OOMKill) { k.Swapped, k.SwapUsage, k.SwapLimit = 8*mib, 4*mib, 10*mib }, false},
		{"v2, no limit of swap", func(k *ebpf.OOMKill) { k.Swapped, k.SwapUsage, k.SwapLimit = 8*mib, 9*mib, 1<<63-4096 }, false},
		{"v1, no swap granted", func(k *ebpf.OOMKill) { k.SwapUsage, k.SwapLimit = 20*mib, 20*mib }, false},
	} {
		e := oom.Evidence{Observed: true, Last: ofInit(kill(initTask(), c.limit)), Signal: 9, ExitCode: 137}
		if v := oom.Verdict(e); v.Reason != oom.Killed || strings.Contains(v.Message, "swap, of which it may have 10Mi, used up") != c.says {
			t.Errorf("%s: %s", c.name, v.Message)
		}
	}
}

// A kill that the cgroup counted and no record tells of makes a SIGKILL of unknown
// origin doubtful, and one of known origin not.
func TestUnrecordedKillIsDoubt(t *testing.T) {
	e := oom.Evidence{Observed: true, Last: ofChild(kill(child())), Signal: 9, ExitCode: 137, Counter: oom.Counter{Known: true, After: 2}}
	if v := oom.Verdict(e); v.Sure || v.Reason != "" {
		t.Errorf("%+v", v)
	}
	e.Last.InitSignal = sent(9, false, ebpf.Task{PID: 900, TGID: 900})
	if v := oom.Verdict(e); !v.Sure || v.Reason != "" {
		t.Errorf("%+v", v)
	}
}

func TestKillOnRecord(t *testing.T) {
	now := time.Unix(5000, 0)
	k, ok := oom.Kill(*kill(child()), podID, now, 10*second+time.Millisecond)
	if !ok || !k.At.Equal(now.Add(-time.Millisecond)) || k.Level != "container" || k.Limit != 20*mib || k.Victim.PID != 107 || k.Init {
		t.Errorf("%v %+v", ok, k)
	}
	if _, ok := oom.Kill(*kill(child(), func(k *ebpf.OOMKill) { k.Dying = true }), podID, now, 0); ok {
		t.Error("a victim that was dying was not killed by the OOM killer")
	}
	if _, ok := oom.Kill(*sent(9, false, child()), podID, now, 0); ok {
		t.Error("a signal is no OOM kill")
	}
}
