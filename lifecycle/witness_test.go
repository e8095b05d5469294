package lifecycle

import (
	"context"
	"slices"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/lifecycle/events"
	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/pod"
)

// book is a witness that knows what it is told.
type book struct {
	tracked map[uint64]bool
	last    map[uint64]oom.Last
	denials map[uint64][]denial.Line
	watches []*tally // the next ones
	starts  map[uint64]oom.Start
}

func (b *book) Observes(oom.Kind) bool                               { return true }
func (b *book) Track(id uint64) error                                { b.tracked[id] = true; return nil }
func (b *book) SetInit(uint64, int) error                            { return nil }
func (b *book) Last(id uint64) (oom.Last, error)                     { return b.last[id], nil }
func (b *book) Denials(id uint64) ([]denial.Line, uint64, error)     { return b.denials[id], 0, nil }
func (b *book) StartProfile(id uint64) (oom.Start, error)            { return b.starts[id], nil }
func (b *book) Untrack(id uint64) error                              { delete(b.tracked, id); return nil }
func (b *book) Events(ctx context.Context, _ func(oom.Record)) error { <-ctx.Done(); return ctx.Err() }
func (b *book) Tracked() (all []uint64, _ error) {
	for id := range b.tracked {
		all = append(all, id)
	}
	return all, nil
}

func (b *book) WatchSyscalls(uint64, calls.Options) (Watch, error) {
	if len(b.watches) == 0 {
		return nil, pod.ErrUnsupported
	}
	w := b.watches[0]
	b.watches = b.watches[1:]
	return w, nil
}

func observed(t *testing.T) (*Manager, *book) {
	t.Helper()
	store, err := pod.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := cgroup.New(cgroup.Config{Driver: cgroup.Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cgroups.Close() })
	b := &book{map[uint64]bool{}, map[uint64]oom.Last{}, map[uint64][]denial.Line{}, nil, map[uint64]oom.Start{}}
	m := &Manager{store: store, index: newIndex(), hub: events.NewHub(), cgroups: cgroups, witness: b}
	m.refused.begin()
	m.starts.begin()
	return m, b
}

func (m *Manager) withContainer(t *testing.T, state pod.State, evidence pod.Evidence) *containerEntry {
	t.Helper()
	c := pod.Container{ID: pod.NewID(), SandboxID: pod.NewID(), State: state, Evidence: evidence,
		Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: "c"}}}}
	if err := m.store.PutContainer(c); err != nil {
		t.Fatal(err)
	}
	return m.index.addContainer(c)
}

func killOf(cgroup uint64, pid int, at time.Duration, total uint64) oom.Record {
	return oom.Record{Kind: oom.KindOOM, Cgroup: cgroup, Time: at, Task: ebpf.Task{PID: pid, TGID: pid, Comm: "worker"},
		OOM: &ebpf.OOMKill{Level: ebpf.Container, Limit: 1 << 20, Kills: total}}
}

func TestKillIsOnRecordAndToldOnce(t *testing.T) {
	m, _ := observed(t)
	e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	other := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 8, Watched: true})
	events := m.Subscribe(100)
	for i := range pod.MaxKills + 3 {
		r := killOf(7, 100+i, time.Duration(i)*time.Second, uint64(i+1))
		m.takeKill(t.Context(), r)
		m.addKill(t.Context(), e, r) // told again, from the last records
	}
	m.takeKill(t.Context(), killOf(99, 1, 0, 1)) // of nobody's
	ev := e.value.Load().Evidence
	if ev.OOMKills != pod.MaxKills+3 || len(ev.Kills) != pod.MaxKills || ev.Kills[0].Victim.PID != 103 {
		t.Errorf("%d kills, the first of %d on record: %+v", ev.OOMKills, len(ev.Kills), ev.Kills[0])
	}
	if n := len(events.Events()); n != pod.MaxKills+3 {
		t.Errorf("%d events", n)
	}
	if e := <-events.Events(); e.Kind != pod.ContainerOOM || e.Kill == nil || e.From != e.To {
		t.Errorf("%+v", e)
	}
	if n := other.value.Load().Evidence.OOMKills; n != 0 {
		t.Errorf("the other container has %d kills", n)
	}
}

// The last record of a cgroup may be read before the events of kills that came earlier,
// and programs that were loaded anew count from one.
func TestKillsToldOutOfOrderAreCountedOnce(t *testing.T) {
	m, _ := observed(t)
	e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	for _, told := range []struct {
		at    time.Duration
		total uint64
		want  uint64
	}{{1 * time.Second, 1, 1}, {3 * time.Second, 3, 3}, {2 * time.Second, 2, 3}, {4 * time.Second, 4, 4}, {5 * time.Second, 1, 5}} {
		m.addKill(t.Context(), e, killOf(7, int(told.at/time.Second), told.at, told.total))
		if n := e.value.Load().Evidence.OOMKills; n != told.want {
			t.Errorf("after the kill at %v: %d kills, want %d", told.at, n, told.want)
		}
	}
	if n := len(e.value.Load().Evidence.Kills); n != 5 {
		t.Errorf("%d kills on record, want all 5", n)
	}
}

func TestNextDaemonForgetsWhoIsGone(t *testing.T) {
	m, b := observed(t)
	m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 1, Watched: true})
	m.withContainer(t, pod.Exited, pod.Evidence{Cgroup: 2, Watched: true})
	m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 3})                          // made by a daemon without programs
	unseen := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 4, Watched: true}) // and then the pins were wiped
	for _, id := range []uint64{1, 2, 5} {
		b.tracked[id] = true
	}
	m.takeUpWitness()
	m.watched.settled.Wait()
	if left, _ := b.Tracked(); !slices.Equal(left, []uint64{1}) {
		t.Errorf("tracked: %v", left)
	}
	if !m.watched.has(1) || m.watched.has(2) || m.watched.has(3) || m.watched.has(4) {
		t.Errorf("watched: %v", m.watched.ids)
	}
	// Not having been watched to the end, a container gets no verdict from records.
	b.last[4] = oom.Last{OOM: &oom.Record{}, OOMKills: 1}
	if exit := m.judge(t.Context(), unseen, pod.Exit{Code: 137, Signal: 9, Source: "monitor", Reason: "Error"}, time.Now()); exit.Reason != "Error" || exit.Sender != nil {
		t.Errorf("%+v", exit)
	}
}

func TestVerdictFollowsTheRecords(t *testing.T) {
	m, b := observed(t)
	kill := killOf(1, 50, sinceBoot(), 1)
	kill.Init = true
	sent := &oom.Record{Kind: oom.KindSignal, Time: kill.Time, Task: ebpf.Task{TGID: 60}, Init: true,
		Signal: &ebpf.Sent{Number: 9, Sender: ebpf.Task{TGID: 1, Comm: "init", Cgroup: 1 << 60}}}
	for _, c := range []struct {
		name   string
		last   oom.Last
		reason string
		from   string
	}{
		{"OOM-killed", oom.Last{OOM: &kill, InitOOM: &kill, OOMKills: 1}, "OOMKilled", ""},
		{"killed by somebody", oom.Last{InitSignal: sent}, "Error", pod.FromHost},
		{"nothing", oom.Last{}, "Error", ""},
	} {
		e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 1, Watched: true})
		m.watched.set(1, true)
		b.last[1] = c.last
		exit := m.judge(t.Context(), e, pod.Exit{Code: 137, Signal: 9, Source: "monitor", Reason: "Error"}, time.Now())
		from := ""
		if exit.Sender != nil {
			from = exit.Sender.From
		}
		if exit.Reason != c.reason || from != c.from || exit.Message == "" {
			t.Errorf("%s: %+v", c.name, exit)
		}
		if n := e.value.Load().Evidence.OOMKills; (n == 1) != (c.reason == "OOMKilled") {
			t.Errorf("%s: %d kills on record", c.name, n)
		}
	}
}
