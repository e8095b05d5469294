package lifecycle

import (
	"context"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
)

// killed tells of a kill and returns how it was published.
func (m *Manager) killed(t *testing.T, r oom.Record) pod.OOMKill {
	t.Helper()
	events := m.Subscribe(10)
	defer events.Close()
	m.takeKill(t.Context(), r)
	select {
	case e := <-events.Events():
		return *e.Kill
	case <-time.After(time.Minute):
		t.Fatal("the kill was not told")
		return pod.OOMKill{}
	}
}

func TestKillOfAnExecsProcessIsToldAsThat(t *testing.T) {
	m, _ := observed(t)
	m.ctx = t.Context()
	c := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	other := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 8, Watched: true})
	before := sinceBoot()
	exec := m.execs.begin(c.value.Load().ID)
	exec.is(100)
	during := sinceBoot()
	m.execs.begin(other.value.Load().ID).is(101)
	for name, test := range map[string]struct {
		pid  int
		at   time.Duration
		want bool
	}{
		"its process":               {100, during, true},
		"a child of it":             {102, during, false},
		"another container's":       {101, sinceBoot(), false},
		"the number's owner before": {100, before - 1, false},
	} {
		if kill := m.killed(t, killOf(7, test.pid, test.at, 0)); kill.Exec != test.want {
			t.Errorf("%s: %+v", name, kill)
		}
	}
	// What the kernel saw needs no word of the daemon's, and no waiting for it.
	seen := killOf(7, 104, sinceBoot(), 0)
	seen.OOM.Entered = true
	if kill := m.killed(t, seen); !kill.Exec {
		t.Error("what came from outside is told as a child")
	}
	seen = killOf(7, 105, sinceBoot(), 0)
	seen.OOM.Entered, seen.Init = true, true
	if kill := m.killed(t, seen); kill.Exec {
		t.Error("PID 1 is told as an exec's process")
	}
	exec.end()
	ended := sinceBoot()
	if kill := m.killed(t, killOf(7, 100, during+1, 0)); !kill.Exec {
		t.Error("told after its end: a child")
	}
	if kill := m.killed(t, killOf(7, 100, ended+time.Second, 0)); kill.Exec {
		t.Error("the number's next owner is told as the exec")
	}
}

func TestKillWaitsUntilTheExecsProcessIsKnown(t *testing.T) {
	m, _ := observed(t)
	var cancel context.CancelFunc
	m.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	c := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	events := m.Subscribe(10)
	defer events.Close()
	exec := m.execs.begin(c.value.Load().ID)
	m.takeKill(t.Context(), killOf(7, 100, sinceBoot(), 1))
	if n := len(events.Events()); n != 0 {
		t.Fatalf("%d events before it is known whose the process is", n)
	}
	seen := killOf(7, 99, sinceBoot(), 1)
	seen.OOM.Entered = true
	m.takeKill(t.Context(), seen) // what the kernel saw needs no word of the daemon's
	if e := <-events.Events(); !e.Kill.Exec || e.Kill.Victim.PID != 99 {
		t.Errorf("%+v", e.Kill)
	}
	exec.is(100)
	m.work.Wait()
	if e := <-events.Events(); e.Kill == nil || !e.Kill.Exec {
		t.Errorf("%+v", e.Kill)
	}
	m.execs.begin(c.value.Load().ID).end() // one that could not be executed
	if kill := m.killed(t, killOf(7, 103, sinceBoot(), 2)); kill.Exec {
		t.Error("a kill is told as that of an exec without a process")
	}
}

func TestEndedExecsAreForgottenInTime(t *testing.T) {
	var x execs
	for pid := 1; pid <= 3*keptExecs; pid++ {
		e := x.begin("c")
		e.is(pid)
		e.end()
	}
	if len(x.begun) != 0 || x.had("c", 1, sinceBoot()) {
		t.Errorf("%d execs go on, and the first is known", len(x.begun))
	}
}
