package lifecycle

import (
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestStartsProgressComesOnRecordOnceAndKeepsItsTimes(t *testing.T) {
	m, b := observed(t)
	m.watched.set(7, true)
	now := sinceBoot()
	b.starts[7] = oom.Start{Cloned: now - 3*time.Second, Exec: now - 2*time.Second}
	e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	m.takeStart(t.Context(), e) // before its beginning is on record
	if s := e.value.Load().Evidence.Start; s != nil {
		t.Fatalf("%+v", s)
	}
	first := m.began(t.Context(), *e.value.Load(), time.Now().Add(-time.Minute), "parent")
	if _, err := m.putContainer(e, pod.Running, func(next *pod.Container) { next.Evidence.Start = first }); err != nil {
		t.Fatal(err)
	}
	m.takeStart(t.Context(), e)
	if s := e.value.Load().Evidence.Start; s != first || first.Exec.Sub(first.Cloned) != time.Second || !first.Listen.IsZero() || first.Traceparent != "parent" {
		t.Errorf("nothing new, and %+v is now %+v", first, s)
	}
	s := b.starts[7]
	s.Listen, s.Port = now-time.Second, 80
	b.starts[7] = s
	m.takeStart(t.Context(), e)
	listens := *e.value.Load().Evidence.Start
	if listens.Exec != first.Exec || listens.Listen.Before(first.Exec) || listens.Port != 80 || listens.Traceparent != "parent" || !listens.Asked.Equal(first.Asked) {
		t.Errorf("%+v after %+v", listens, first)
	}
	w := &tally{accepted: now}
	b.watches = []*tally{w}
	if _, err := m.stand(*e.value.Load(), byStart, startWatch); err != nil {
		t.Fatal(err)
	}
	m.takeStart(t.Context(), e)
	if s := e.value.Load().Evidence.Start; s.Accept.Before(s.Listen) || s.Listen != listens.Listen || w.stopped != 1 {
		t.Errorf("%+v after %+v, stopped %d times", s, listens, w.stopped)
	}
}
