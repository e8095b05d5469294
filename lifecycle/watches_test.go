package lifecycle

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/pod"
)

// tally is a watch that counts as it is told.
type tally struct {
	counted  []calls.Count
	whole    bool
	stopped  int
	accepted time.Duration
}

func (t *tally) Whole() bool                      { return t.whole }
func (t *tally) Syscalls() ([]calls.Count, error) { return t.counted, nil }
func (t *tally) Flight() (calls.Flight, error)    { return calls.Flight{Missed: 7}, nil }
func (t *tally) Accepted() (time.Duration, error) { return t.accepted, nil }
func (t *tally) Stop() error                      { t.stopped++; return nil }

func TestEachAskerHasItsOwnCounts(t *testing.T) {
	m, b := observed(t)
	e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	c := *e.value.Load()
	if _, err := m.Learn(string(c.ID)); !errors.Is(err, pod.ErrUnsupported) {
		t.Errorf("of a container that is not observed: %v", err)
	}
	m.watched.set(7, true)
	first, second := &tally{whole: true}, &tally{counted: []calls.Count{{Number: unix.SYS_READ, Calls: 100}}}
	b.watches = []*tally{first, second}
	if _, err := m.stand(c, byOptions, calls.Options{Flight: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, it goes on
		if _, err := m.Learn(string(c.ID)); err != nil {
			t.Fatal(err)
		}
	}
	first.counted = []calls.Count{{Number: unix.SYS_READ, Calls: 130}}
	second.counted = []calls.Count{{Number: unix.SYS_READ, Calls: 130}}
	all, err := m.Syscalls(c)
	if err != nil || all.Calls[0].Calls != 130 || !all.Whole || all.Learned {
		t.Errorf("all: %+v, %v", all, err)
	}
	learned, err := m.Learned(c)
	if err != nil || learned.Calls[0].Calls != 30 || learned.Whole || !learned.Learned {
		t.Errorf("learned: %+v, %v", learned, err)
	}
	if w := m.Watching(); w["counts"] != 1 || w["denials"] != 1 || w["flight"] != 1 || w["latency"] != 0 {
		t.Errorf("watching %v", w)
	}
	exit := m.judge(t.Context(), e, pod.Exit{Code: 1, Source: "monitor", Reason: "Error"}, time.Now())
	m.untrack(t.Context(), c)
	ev := e.value.Load().Evidence
	if exit.Code != 1 || ev.Syscalls == nil || !ev.Syscalls.Learned || ev.Flight == nil || ev.Flight.Missed != 7 {
		t.Errorf("on record: %+v, %+v", ev.Syscalls, ev.Flight)
	}
	if first.stopped != 1 || second.stopped != 1 || len(m.watches.all) != 0 {
		t.Errorf("stopped %d and %d times, left %v", first.stopped, second.stopped, m.watches.all)
	}
}

func TestAPersonsWatchEndsWithItsTime(t *testing.T) {
	m, b := observed(t)
	synctest.Test(t, func(t *testing.T) {
		m.ctx = t.Context()
		e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
		c := *e.value.Load()
		m.index.addSandbox(pod.Sandbox{ID: c.SandboxID})
		m.watched.set(7, true)
		w := &tally{counted: []calls.Count{{Number: unix.SYS_READ, Calls: 1}}}
		b.watches = []*tally{w}
		began := time.Now()
		counted, err := m.WatchSyscalls(t.Context(), string(c.ID), time.Minute, false)
		if err != nil || time.Since(began) != time.Minute || counted.To.Sub(counted.From) != time.Minute || len(counted.Calls) != 0 {
			t.Errorf("%+v, %v", counted, err)
		}
		if w.stopped != 1 || m.Watching()["counts"] != 0 {
			t.Errorf("stopped %d times", w.stopped)
		}
	})
}
