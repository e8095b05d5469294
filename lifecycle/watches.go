package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Watch is one view of a container's system calls; see Witness.WatchSyscalls.
type Watch interface {
	// Whole: it began before PID 1's first execve.
	Whole() bool
	Syscalls() ([]calls.Count, error)
	Flight() (calls.Flight, error)
	// Accepted is when an accept first returned, by the clock of the boot; 0 before.
	Accepted() (time.Duration, error)
	// Stop ends it; again, it changes nothing.
	Stop() error
}

// standing is a watch that somebody has asked for.
type standing struct {
	Watch
	options calls.Options
	since   time.Time
	// before is what others had counted when it began.
	before []calls.Count
}

// An asker for a watch: the container's own options, a person who wants to learn its
// profile, its start, which is over with the first accept. From byPerson on each is one
// person who watches for a while, and ends that watch himself.
type asker int

const (
	byOptions asker = iota
	byLearner
	byStart
	byPerson
)

// watches are the watches of containers, by cgroup and asker. The programs go with the
// last of them, and with the daemon.
type watches struct {
	mu      sync.Mutex // guards all and persons
	all     map[uint64]map[asker]*standing
	persons asker
}

// person is an asker that nobody is yet.
func (w *watches) person() asker {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.persons++
	return byPerson + w.persons
}

// put keeps a watch, unless the asker has one: then it says so and nothing changes.
func (w *watches) put(cgroup uint64, by asker, s *standing) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[uint64]map[asker]*standing{}
	}
	if w.all[cgroup] == nil {
		w.all[cgroup] = map[asker]*standing{}
	}
	if w.all[cgroup][by] != nil {
		return false
	}
	w.all[cgroup][by] = s
	return true
}

func (w *watches) get(cgroup uint64, by asker) *standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[cgroup][by]
}

// end ends the watches of some askers.
func (w *watches) end(cgroup uint64, askers ...asker) error {
	w.mu.Lock()
	var ended []*standing
	for _, by := range askers {
		if s := w.all[cgroup][by]; s != nil {
			ended = append(ended, s)
			delete(w.all[cgroup], by)
		}
	}
	if len(w.all[cgroup]) == 0 {
		delete(w.all, cgroup)
	}
	w.mu.Unlock()
	var errs []error
	for _, s := range ended {
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}

// endLife ends those that end with the container.
func (w *watches) endLife(cgroup uint64) error { return w.end(cgroup, byOptions, byLearner, byStart) }

// Watching counts the containers whose system calls are watched now, by what for.
func (m *Manager) Watching() map[string]int {
	counts := map[string]int{"counts": 0, "latency": 0, "denials": 0, "flight": 0, "accept": 0}
	m.watches.mu.Lock()
	defer m.watches.mu.Unlock()
	for _, askers := range m.watches.all {
		var o calls.Options
		for _, s := range askers {
			o.Latency, o.Denials = o.Latency || s.options.Latency, o.Denials || s.options.Denials
			o.Flight, o.Accept = o.Flight || s.options.Flight, o.Accept || s.options.Accept
		}
		for _, f := range []struct {
			name string
			on   bool
		}{{"counts", true}, {"latency", o.Latency}, {"denials", o.Denials}, {"flight", o.Flight}, {"accept", o.Accept}} {
			if f.on {
				counts[f.name]++
			}
		}
	}
	return counts
}

// observeOptions are the administrator's, with what the pod's annotations change.
func (m *Manager) observeOptions(sb pod.Sandbox, c pod.Container) (spec.ObserveOptions, error) {
	return spec.Observe(m.config.Observe, m.config.Annotations, c.Config.GetMetadata().GetName(), sb.Config.GetAnnotations(), c.Config.GetAnnotations())
}

// observe watches a tracked container's system calls as it asks for it: before PID 1 is
// the user's program, or, after a restart of the daemon, from then on. A failure costs
// knowledge, not the container.
func (m *Manager) observe(ctx context.Context, c pod.Container) {
	owner, err := m.index.sandbox(string(c.SandboxID))
	if err != nil {
		return
	}
	o, err := m.observeOptions(*owner.value.Load(), c)
	if err != nil { // a value that cannot be was refused at the creation
		return
	}
	if o.Counts() || o.Denials || o.Flight {
		_, err := m.stand(c, byOptions, calls.Options{Latency: o.Latency(), Denials: o.Denials, Flight: o.Flight})
		warn(ctx, "a container's system calls are not watched", err, "container", c.ID)
	}
	if o.Learn {
		_, err := m.stand(c, byLearner, learning)
		warn(ctx, "a container's seccomp profile is not learned", err, "container", c.ID)
	}
	if o.Accept && (c.Evidence.Start == nil || c.Evidence.Start.Accept.IsZero()) {
		_, err := m.stand(c, byStart, startWatch)
		warn(ctx, "a container's first accept is not timed", err, "container", c.ID)
	}
}

// learning needs to know what seccomp answered.
var learning = calls.Options{Denials: true}

// startWatch lasts until the first accept.
var startWatch = calls.Options{Accept: true}

// stand begins a watch for an asker; one that he has already goes on.
func (m *Manager) stand(c pod.Container, by asker, o calls.Options) (*standing, error) {
	if s := m.watches.get(c.Evidence.Cgroup, by); s != nil {
		return s, nil
	}
	if !m.watched.has(c.Evidence.Cgroup) {
		if c.State == pod.Exited || c.State == pod.Removing {
			return nil, fmt.Errorf("watch system calls of %s: %w: it is %s", c.ID.Short(), pod.ErrState, c.State)
		}
		return nil, fmt.Errorf("watch system calls of %s: %w: the container is not observed by eBPF", c.ID.Short(), pod.ErrUnsupported)
	}
	w, err := m.witness.WatchSyscalls(c.Evidence.Cgroup, o)
	if err != nil {
		return nil, err
	}
	s := &standing{Watch: w, options: o, since: time.Now()}
	if !w.Whole() {
		if s.before, err = w.Syscalls(); err != nil {
			return nil, errors.Join(err, w.Stop())
		}
	}
	if !m.watches.put(c.Evidence.Cgroup, by, s) {
		return m.watches.get(c.Evidence.Cgroup, by), s.Stop()
	}
	// To load the programs takes a while. What ended meanwhile has no record of its start
	// any more, so this watch is taken for a whole one.
	if !m.watched.has(c.Evidence.Cgroup) {
		err := fmt.Errorf("watch system calls of %s: %w: it has ended", c.ID.Short(), pod.ErrState)
		return nil, errors.Join(err, m.watches.end(c.Evidence.Cgroup, by))
	}
	return s, nil
}

// syscalls are what the watch has counted by now.
func (s *standing) syscalls() (*pod.Syscalls, error) {
	counted, err := s.Syscalls()
	if err != nil {
		return nil, err
	}
	return &pod.Syscalls{From: s.since, To: time.Now(), Whole: s.Whole(), Learned: s.options.Denials,
		Calls: calls.Record(calls.Since(s.before, counted))}, nil
}

// Syscalls are what has been counted of a container's system calls by a standing watch:
// up to now, or up to its end. Nobody counted: nil.
func (m *Manager) Syscalls(c pod.Container) (*pod.Syscalls, error) {
	s := m.watches.get(c.Evidence.Cgroup, byOptions)
	if l := m.watches.get(c.Evidence.Cgroup, byLearner); s == nil || l != nil && l.Whole() && !s.Whole() {
		s = cmp.Or(l, s)
	}
	if s == nil {
		return c.Evidence.Syscalls, nil
	}
	return s.syscalls()
}

// Learned is Syscalls of the watch that a seccomp profile can be made of.
func (m *Manager) Learned(c pod.Container) (*pod.Syscalls, error) {
	for _, by := range []asker{byLearner, byOptions} {
		if s := m.watches.get(c.Evidence.Cgroup, by); s != nil && s.options.Denials {
			return s.syscalls()
		}
	}
	if kept := c.Evidence.Syscalls; kept != nil && kept.Learned {
		return kept, nil
	}
	return nil, nil
}

// Learn begins to learn a container's profile, from now on or as it was begun; see
// Learned. It ends with the container, with the daemon, or by Unlearn.
func (m *Manager) Learn(id string) (pod.Container, error) {
	c, err := m.Container(id)
	if err != nil {
		return c, err
	}
	_, err = m.stand(c, byLearner, learning)
	return c, err
}

// Unlearn ends what Learn began; what was learned is kept on the container's record. It
// is no error if there is nothing.
func (m *Manager) Unlearn(ctx context.Context, id string) error {
	e, err := m.index.container(id)
	if err != nil {
		return err
	}
	m.keepSyscalls(ctx, e)
	return m.watches.end(e.value.Load().Evidence.Cgroup, byLearner)
}

// WatchSyscalls counts a container's system calls for a while: until bound is over, ctx
// ends or the container does. It returns what was counted, and an error only if that
// cannot be told.
func (m *Manager) WatchSyscalls(ctx context.Context, id string, bound time.Duration, latency bool) (*pod.Syscalls, error) {
	e, _, err := m.containerAndSandbox(id)
	if err != nil {
		return nil, err
	}
	c, by := *e.value.Load(), m.watches.person()
	s, err := m.stand(c, by, calls.Options{Latency: latency})
	if err != nil {
		return nil, err
	}
	over := time.NewTimer(bound)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	case <-e.exited:
	case <-m.ctx.Done():
	}
	counted, err := s.syscalls()
	return counted, errors.Join(err, m.watches.end(c.Evidence.Cgroup, by))
}

// keepSyscalls puts what was counted on the container's record.
func (m *Manager) keepSyscalls(ctx context.Context, e *containerEntry) {
	c := *e.value.Load()
	counted, err := m.Learned(c)
	if err == nil && counted == nil {
		counted, err = m.Syscalls(c)
	}
	warn(ctx, "read what system calls a container made", err, "container", c.ID)
	if err != nil || counted == nil || counted == c.Evidence.Syscalls {
		return
	}
	m.amend(ctx, e, "record what system calls a container made", func(next *pod.Container) { next.Evidence.Syscalls = counted })
}

// Flight is what a container called last: up to now if it lives and asks for it, else as
// its record keeps it; nil without.
func (m *Manager) Flight(c pod.Container) (*pod.Flight, error) {
	s := m.watches.get(c.Evidence.Cgroup, byOptions)
	if s == nil || !s.options.Flight {
		return c.Evidence.Flight, nil
	}
	f, err := s.Flight()
	if err != nil {
		return nil, err
	}
	return calls.Recorded(f, time.Now(), sinceBoot()), nil
}

// keepFlight puts the recorder's content on the record of a container that ended with an
// error.
func (m *Manager) keepFlight(ctx context.Context, e *containerEntry, exit pod.Exit) {
	c := *e.value.Load()
	if exit.Code == 0 && exit.Signal == 0 {
		return
	}
	f, err := m.Flight(c)
	warn(ctx, "read what a container called last", err, "container", c.ID)
	if err != nil || f == nil || f == c.Evidence.Flight {
		return
	}
	m.amend(ctx, e, "record what a container called last", func(next *pod.Container) { next.Evidence.Flight = f })
}

// amend changes a container's record without a move.
func (m *Manager) amend(ctx context.Context, e *containerEntry, what string, change func(*pod.Container)) {
	for range 3 { // the state may move between look and door
		_, err := m.putContainer(e, e.value.Load().State, change)
		if errors.Is(err, pod.ErrState) {
			continue
		}
		warn(ctx, what, err, "container", e.value.Load().ID)
		return
	}
}
