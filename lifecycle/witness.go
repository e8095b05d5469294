package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Witness observes containers from inside the kernel, by the id of their memory cgroup.
// What it knows outlives the daemon. It is safe for concurrent use.
type Witness interface {
	// Observes says whether records of the kind are made at all.
	Observes(oom.Kind) bool
	// Track must come before the first instruction that is to be seen. SetInit says
	// which process is PID 1.
	Track(cgroup uint64) error
	SetInit(cgroup uint64, pid int) error
	// Last is exact also when events were lost; nothing for a cgroup that is not tracked.
	Last(cgroup uint64) (oom.Last, error)
	Untrack(cgroup uint64) error
	Tracked() ([]uint64, error)
	// Denials is a container's ledger in the order of time; lost counts denials that
	// found no place in it.
	Denials(cgroup uint64) (ledger []denial.Line, lost uint64, err error)
	// WatchSyscalls watches a tracked container's system calls, and counts them, until the
	// watch is stopped.
	WatchSyscalls(cgroup uint64, options calls.Options) (Watch, error)
	// StartProfile is how the container began, as far as it has come; zero before PID 1's
	// first execve.
	StartProfile(cgroup uint64) (oom.Start, error)
	// Events calls handle for each record until ctx ends; handle must be quick.
	Events(ctx context.Context, handle func(oom.Record)) error
}

// observes says whether there is anything to track a container for. It waits until the
// tracked containers of an earlier daemon have been gone through, which must not find
// one that this daemon has just begun to track.
func (m *Manager) observes() bool {
	if m.witness == nil {
		return false
	}
	m.watched.settled.Wait()
	return m.witness.Observes(oom.KindOOM) || m.witness.Observes(oom.KindSignal)
}

// watched is the set of cgroups that the witness knows.
type watched struct {
	mu  sync.Mutex // guards ids
	ids map[uint64]bool
	// settled: what an earlier daemon tracked is known.
	settled sync.WaitGroup
}

func (w *watched) set(id uint64, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ids == nil {
		w.ids = map[uint64]bool{}
	}
	if known {
		w.ids[id] = true
	} else {
		delete(w.ids, id)
	}
}

// has waits until it is known what an earlier daemon tracked.
func (w *watched) has(id uint64) bool {
	w.settled.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return id != 0 && w.ids[id]
}

// trackEarly makes the container's cgroup and lets the witness know it before the
// runtime's first process enters. Runtimes that want to make their cgroup themselves
// are left to trackInit. A failure costs evidence, not the container.
func (m *Manager) trackEarly(ctx context.Context, c *pod.Container, handler Handler) {
	if !m.observes() || handler.external() {
		return
	}
	id, err := m.cgroups.MakeContainer(c.Cgroup)
	if errors.Is(err, pod.ErrUnsupported) {
		return
	}
	if err == nil {
		err = m.track(c, id)
	}
	warn(ctx, "a container will not be observed before its start", err, "container", c.ID)
}

func (m *Manager) track(c *pod.Container, id uint64) error {
	if err := m.witness.Track(id); err != nil {
		return err
	}
	m.watched.set(id, true)
	c.Evidence.Cgroup, c.Evidence.Watched = id, true
	return nil
}

// trackInit completes the evidence's beginning once PID 1 exists and before it becomes
// the user's program: the cgroup's id and counter, and who PID 1 is.
func (m *Manager) trackInit(ctx context.Context, c *pod.Container) {
	if c.Cgroup == "" {
		return
	}
	if counts, err := m.cgroups.OOMCounts(c.Cgroup); err == nil {
		c.Evidence.Counted, c.Evidence.CountedBefore = true, counts.Kills
	}
	if c.Evidence.Cgroup == 0 {
		id, err := m.cgroups.ID(c.Cgroup)
		if err == nil && m.observes() {
			err = m.track(c, id)
		}
		c.Evidence.Cgroup = id
		warn(ctx, "a container is not observed", ignoreGone(err), "container", c.ID)
	}
	if m.watched.has(c.Evidence.Cgroup) {
		warn(ctx, "tell who is PID 1", m.witness.SetInit(c.Evidence.Cgroup, c.Init.PID), "container", c.ID)
		m.observe(ctx, *c)
	} else if m.cgroups.Driver() == cgroup.Systemd {
		kills, err := m.cgroups.OOMKillsBelow(path.Dir(c.Cgroup))
		c.Evidence.PodCounted, c.Evidence.PodCountedBefore = err == nil, kills
	}
}

// untrack forgets a container whose end is on record, or that is being removed.
func (m *Manager) untrack(ctx context.Context, c pod.Container) {
	if !m.watched.has(c.Evidence.Cgroup) {
		return
	}
	m.watched.set(c.Evidence.Cgroup, false)
	warn(ctx, "end the watch of a container's syscalls", m.watches.endLife(c.Evidence.Cgroup), "container", c.ID)
	warn(ctx, "end the observation of a container", m.witness.Untrack(c.Evidence.Cgroup), "container", c.ID)
}

// takeUpWitness learns what an earlier daemon tracked, and forgets what no living
// container is. A container that is not among it was not observed all its life. The
// witness may take a second to be there: only who asks about a container waits for it.
func (m *Manager) takeUpWitness() {
	if m.witness == nil {
		return
	}
	alive := map[uint64]bool{}
	for _, e := range m.index.allContainers() {
		if c := e.value.Load(); c.State != pod.Exited && c.Evidence.Watched {
			alive[c.Evidence.Cgroup] = true
		}
	}
	m.watched.settled.Add(1)
	m.background(func(ctx context.Context) {
		defer m.watched.settled.Done()
		m.settleTracked(ctx, alive)
	})
}

func (m *Manager) settleTracked(ctx context.Context, alive map[uint64]bool) {
	tracked, err := m.witness.Tracked()
	warn(ctx, "list what was observed", err)
	again := map[uint64]bool{}
	for _, id := range tracked {
		if alive[id] {
			m.watched.set(id, true)
			again[id] = true
		} else {
			warn(ctx, "forget a container that is gone", m.witness.Untrack(id), "cgroup", id)
		}
	}
	for _, e := range m.index.allContainers() {
		if c := e.value.Load(); again[c.Evidence.Cgroup] && c.State != pod.Exited {
			m.observe(ctx, *c)
		}
	}
}

// followWitness takes in what happens to containers that live, until the daemon ends.
func (m *Manager) followWitness() {
	if m.witness == nil {
		return
	}
	m.background(m.followDenials)
	m.background(m.followStarts)
	m.background(func(ctx context.Context) {
		err := m.witness.Events(ctx, func(r oom.Record) {
			switch r.Kind {
			case oom.KindOOM:
				m.takeKill(ctx, r)
			case oom.KindDenial:
				m.refused.note(r.Cgroup)
			case oom.KindProgress:
				m.starts.note(r.Cgroup)
			}
		})
		if ctx.Err() == nil {
			slog.ErrorContext(ctx, "kernel events are no longer read; verdicts go on, live events end", "error", err)
		}
	})
}

// podCgroupID is the id of the pod's memory cgroup, 0 when it is gone.
func (m *Manager) podCgroupID(c pod.Container) uint64 {
	if c.Cgroup == "" {
		return 0
	}
	id, err := m.cgroups.ID(path.Dir(c.Cgroup))
	if err != nil {
		return 0
	}
	return id
}

// sinceBoot is the clock by which the kernel's programs tell time, suspend included.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // every kernel that can be run on has it
	}
	return time.Duration(ts.Nano())
}
