package lifecycle

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
)

// A making is the evidence of what happens while a container is made whose cgroup is not
// there before: systemd or the runtime makes it, and it is gone when its only process has
// been killed. The pod's stands in for it (docs/decisions/0160). nil is a making of which
// nothing is to be known.
type making struct {
	m   *Manager
	pod uint64
	// watched: the kernel's programs knew the pod's cgroup throughout.
	watched bool
	// counted is the pod's own number of kills at the beginning, where no program watches.
	counted oom.PodCounter
}

// makings counts those of each pod's cgroup: clients other than kubelet may name one for
// several pods. The zero value is ready.
type makings struct {
	mu  sync.Mutex // guards all, and that a cgroup is tracked exactly while there is one
	all map[uint64]*crowd
}

// crowd is the makings at one time in one cgroup. Two of them cannot be told apart.
type crowd struct {
	makings int
	mixed   bool // there were two at some time
}

// watchMaking begins before the runtime's first process. A kill in a cgroup that is tracked
// itself, as those of the pod's other containers are, is not told as the pod's: a record is
// of the nearest that is tracked (find_below, ebpf/bpf/track.h). The caller ends it.
func (m *Manager) watchMaking(ctx context.Context, c pod.Container) *making {
	id := m.podCgroupID(c)
	if id == 0 || m.watched.has(c.Evidence.Cgroup) {
		return nil
	}
	w := &making{m: m, pod: id}
	if m.observes() && m.witness.Observes(oom.KindOOM) {
		err := m.makings.begin(id, m.witness.Track)
		w.watched = err == nil
		warn(ctx, "the making of a container is not observed", err, "container", c.ID)
	}
	if !w.watched {
		kills, err := m.cgroups.OOMKillsBelow(path.Dir(c.Cgroup))
		w.counted = oom.PodCounter{Known: err == nil, Before: kills}
	}
	return w
}

// killed says that the last kill seen was of that process.
func (w *making) killed(ctx context.Context, pid int) bool {
	if w == nil || !w.watched {
		return false
	}
	last, err := w.m.witness.Last(w.pod)
	warn(ctx, "read what was observed of a container's making", err, "cgroup", w.pod)
	return err == nil && last.OOM != nil && last.OOM.Task.TGID == pid
}

// end may be called again.
func (w *making) end(ctx context.Context) {
	if w != nil && w.watched {
		w.watched = false
		warn(ctx, "end the observation of a container's making", w.m.makings.end(w.pod, w.m.witness.Untrack), "cgroup", w.pod)
	}
}

func (x *makings) begin(id uint64, track func(uint64) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if all := x.all[id]; all != nil {
		all.makings++
		all.mixed = true
		return nil
	}
	if err := track(id); err != nil {
		return err
	}
	if x.all == nil {
		x.all = map[uint64]*crowd{}
	}
	x.all[id] = &crowd{makings: 1}
	return nil
}

func (x *makings) end(id uint64, untrack func(uint64) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.all[id]
	if all.makings--; all.makings > 0 {
		return nil
	}
	delete(x.all, id)
	return untrack(id)
}

func (x *makings) mixed(id uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[id] != nil && x.all[id].mixed
}

// tooSmall says so when a container could not be made because the runtime's own first
// process was OOM-killed in it, and leaves other errors as they are. It rests on what was
// seen of the container's cgroup, or of the pod's while the making was, and not on the
// runtime's words. It comes before the making's end.
func (m *Manager) tooSmall(ctx context.Context, c pod.Container, w *making, err error) error {
	ev := oom.Evidence{Phase: oom.Creating, Limit: memoryLimit(c), Pod: m.podCgroupID(c)}
	if counts, countErr := m.cgroups.OOMCounts(c.Cgroup); countErr == nil { // a new cgroup begins at 0
		ev.Counter = oom.Counter{Known: true, After: counts.Kills}
	}
	watched := c.Evidence.Cgroup
	if w != nil && w.watched && !m.makings.mixed(w.pod) {
		watched, ev.Around = w.pod, true
	}
	if ev.Around || m.watched.has(watched) {
		last, lastErr := m.witness.Last(watched)
		warn(ctx, "read what was observed of a container", lastErr, "container", c.ID)
		ev.Observed, ev.Last = lastErr == nil && m.witness.Observes(oom.KindOOM), last
	} else if w != nil && w.counted.Known {
		kills, countErr := m.cgroups.OOMKillsBelow(path.Dir(c.Cgroup))
		ev.Counter.Pod = oom.PodCounter{Known: countErr == nil, Before: w.counted.Before, After: kills}
	}
	v := oom.Verdict(ev)
	switch {
	case v.Message == "":
		return err
	case !ev.Observed && !ev.Counter.Known: // only the pod's count, which may be of another
		return fmt.Errorf("%w; %s", err, v.Message)
	}
	return fmt.Errorf("%w: %s: %w", pod.ErrInvalid, v.Message, err)
}
