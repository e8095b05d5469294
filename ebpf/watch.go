package ebpf

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
)

// WatchOptions say what is noted of a container's syscalls besides how often each was
// made and failed. Counting alone is the cheapest: everything else needs a second
// program at the beginning of each syscall.
type WatchOptions struct {
	// Latency takes the time of one syscall in Sample.
	Latency bool
	// Sample is a power of 2; 0 is 64. The finest of those who ask is taken.
	Sample int
	// Denials puts all that syscalls were refused into the ledger, also seccomp's errors.
	Denials bool
	// Flight keeps the last 256 calls, and stops with the end of PID 1.
	Flight bool
	// Accept notes when an accept first returned a connection; it costs no second program.
	Accept bool
}

// ErrWatches is wrapped where as many containers are watched as can be.
var ErrWatches = errors.New("too many containers are watched")

// maxWatched is one less than the slots, as slot 0 is nobody's.
const maxWatched = int(syscallsBoundSLOTS) - 1

// Watch is one asker's view of a container's syscalls. Safe for concurrent use.
type Watch struct {
	programs *Programs
	cgroup   uint64
	options  WatchOptions
	whole    bool
}

// WatchSyscalls watches a tracked cgroup, and those below it, until Stop. If PID 1 has
// not executed anything yet, what comes before that is not counted: it is the
// launcher's. Those who watch the same container share its counts, which begin with the
// first of them. At most 16 containers are watched at a time (ErrWatches). While anybody
// watches, every process of the host pays for each syscall: see docs/decisions/0015.
func (p *Programs) WatchSyscalls(cgroup uint64, options WatchOptions) (*Watch, error) {
	if options.Sample == 0 {
		options.Sample = 64
	}
	if options.Sample < 0 || bits.OnesCount(uint(options.Sample)) != 1 || options.Sample > 1<<20 {
		return nil, fmt.Errorf("watch syscalls: sample of %d, expected a power of 2 up to %d", options.Sample, 1<<20)
	}
	var c programsContainer
	if err := p.maps[programsMapContainers].Lookup(cgroup, &c); err != nil {
		return nil, fmt.Errorf("watch syscalls of cgroup %d, which must be tracked: %w", cgroup, err)
	}
	w := &Watch{programs: p, cgroup: cgroup, options: options}
	p.watching.mu.Lock()
	defer p.watching.mu.Unlock()
	if err := p.watching.add(w); err != nil {
		return nil, errors.Join(fmt.Errorf("watch syscalls of cgroup %d: %w", cgroup, err), p.watching.remove(w))
	}
	return w, nil
}

// Whole says that the watch began before PID 1 had executed anything: no call is missing.
func (w *Watch) Whole() bool { return w.whole }

// Stop ends this watch. With the last one of a container its counts go, with the last
// one of all every program is detached and unloaded. Again, it changes nothing.
func (w *Watch) Stop() error {
	w.programs.watching.mu.Lock()
	defer w.programs.watching.mu.Unlock()
	if err := w.programs.watching.remove(w); err != nil {
		return fmt.Errorf("end watch of cgroup %d: %w", w.cgroup, err)
	}
	return nil
}

// watching is what is loaded while somebody asks. All of it belongs to this process and
// ends with it.
type watching struct {
	mu     sync.Mutex // guards all below
	loaded *observer
	// chosen are the programs that the kernel took; nil before it was asked.
	chosen *choice
	// features is what SyscallFeatures found; nil before it was asked.
	features []Feature
	// slots holds who watches, by cgroup.
	slots map[uint64]*watched
}

type watched struct {
	slot   uint32
	askers map[*Watch]bool
}

func (w *watching) add(asker *Watch) error {
	if w.loaded == nil {
		o, err := newObserver(asker.programs)
		if err != nil {
			return err
		}
		w.loaded, w.slots = o, map[uint64]*watched{}
	}
	e := w.slots[asker.cgroup]
	if e == nil {
		slot := w.free()
		if slot > uint32(maxWatched) {
			return fmt.Errorf("%w: %d", ErrWatches, maxWatched)
		}
		if err := w.loaded.begin(slot, asker.cgroup); err != nil {
			return err
		}
		e = &watched{slot: slot, askers: map[*Watch]bool{}}
		w.slots[asker.cgroup] = e
	}
	e.askers[asker] = true
	if err := w.settle(); err != nil {
		return err
	}
	// Only now is no execve missed: one before this is in the start's record, a later
	// one is seen by the program itself.
	started, err := w.loaded.alreadyStarted(asker.programs, e.slot, asker.cgroup)
	asker.whole = err == nil && !started
	return err
}

func (w *watching) free() uint32 {
	taken := map[uint32]bool{}
	for _, e := range w.slots {
		taken[e.slot] = true
	}
	slot := uint32(1)
	for taken[slot] {
		slot++
	}
	return slot
}

// remove takes an asker away, and what is loaded with the last one.
func (w *watching) remove(asker *Watch) error {
	if w.loaded == nil {
		return nil
	}
	var errs []error
	if e := w.slots[asker.cgroup]; e != nil && e.askers[asker] {
		delete(e.askers, asker)
		if len(e.askers) == 0 {
			delete(w.slots, asker.cgroup)
			errs = append(errs, w.loaded.end(asker.cgroup))
		}
	}
	if len(w.slots) == 0 {
		return errors.Join(append(errs, w.unload())...)
	}
	return errors.Join(append(errs, w.settle())...)
}

// settle tells the programs what is asked now, and attaches those needed for it.
func (w *watching) settle() error {
	any := uint32(0)
	for _, e := range w.slots {
		flags, sample := uint32(0), uint32(1)<<20
		for asker := range e.askers {
			o := asker.options
			for _, f := range []struct {
				on   bool
				flag syscallsWatching
			}{
				{o.Latency, syscallsWatchingWATCH_LATENCY},
				{o.Denials, syscallsWatchingWATCH_DENIALS},
				{o.Flight, syscallsWatchingWATCH_FLIGHT},
				{o.Accept, syscallsWatchingWATCH_ACCEPT},
			} {
				if f.on {
					flags |= uint32(f.flag)
				}
			}
			if o.Latency {
				sample = min(sample, uint32(o.Sample))
			}
		}
		if err := w.loaded.ask(e.slot, flags, sample-1); err != nil {
			return err
		}
		any |= flags
	}
	return w.loaded.attach(any)
}

func (w *watching) unload() error {
	o := w.loaded
	w.loaded, w.slots = nil, nil
	return o.close()
}

// close ends all watches.
func (w *watching) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loaded == nil {
		return nil
	}
	return w.unload()
}
