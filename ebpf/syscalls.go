package ebpf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"time"

	cebpf "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// OtherSyscalls stands for the numbers from 511 on and for 32-bit programs' syscalls.
const OtherSyscalls = int(syscallsBoundOTHERS)

// SyscallName is the name that seccomp profiles know a syscall of this machine by; its
// number if it is younger than our table.
func SyscallName(number int) string {
	if number == OtherSyscalls {
		return "other"
	}
	if name := syscallNames[number]; name != "" {
		return name
	}
	return strconv.Itoa(number)
}

// SyscallNames are the names of all system calls in our table, sorted.
func SyscallNames() []string { return slices.Sorted(maps.Values(syscallNames)) }

// NativeArch is the AUDIT_ARCH_ constant of this machine's own system calls.
func NativeArch() uint32 {
	if runtime.GOARCH == "arm64" {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}

// Syscall is how a container used one syscall.
type Syscall struct {
	Number        int
	Calls, Errors uint64
	// Refused of the calls were answered by seccomp, the last one with Answer. Known only
	// while somebody watches with Denials.
	Refused uint64
	Answer  unix.Errno
	// Latency counts sampled calls: those that took 2^i up to 2^(i+1) nanoseconds, the
	// last also those that took longer. Nil without samples.
	Latency []uint64
}

// Quantile is the upper bound of the bucket that the quantile q, 0 to 1, of the samples
// lies in; 0 without samples.
func (s Syscall) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range s.Latency {
		all += n
	}
	below := uint64(0)
	for i, n := range s.Latency {
		if below += n; all > 0 && float64(below) >= q*float64(all) && below > 0 {
			return time.Duration(1) << (i + 1)
		}
	}
	return 0
}

// errStopped is what reading a stopped watch returns, wrapped.
var errStopped = errors.New("the watch has ended")

// slot returns the loaded object and the container's slot in it. The caller holds the lock.
func (w *Watch) slot() (*observer, uint32, error) {
	all := &w.programs.watching
	if e := all.slots[w.cgroup]; e != nil && e.askers[w] {
		return all.loaded, e.slot, nil
	}
	return nil, 0, fmt.Errorf("syscalls of cgroup %d: %w", w.cgroup, errStopped)
}

// Syscalls returns those that the container has made since the watch of it began, by
// number. exit, exit_group and rt_sigreturn do not return and are not among them.
func (w *Watch) Syscalls() ([]Syscall, error) {
	w.programs.watching.mu.Lock()
	defer w.programs.watching.mu.Unlock()
	o, slot, err := w.slot()
	if err != nil {
		return nil, err
	}
	var list []Syscall
	var perCPU []syscallsTally
	for n := range uint32(syscallsBoundSYSCALLS) {
		if err := o.maps[syscallsMapTallies].Lookup(slot*uint32(syscallsBoundSYSCALLS)+n, &perCPU); err != nil {
			return nil, fmt.Errorf("syscalls of cgroup %d: %w", w.cgroup, err)
		}
		s := Syscall{Number: int(n)}
		for _, t := range perCPU {
			s.Calls += t.Calls
			s.Errors += t.Errors
			s.Refused += uint64(t.Refused)
			if t.Refused > 0 {
				s.Answer = unix.Errno(t.Answer)
			}
		}
		if s.Calls == 0 {
			continue
		}
		var l syscallsLatency
		err := o.maps[syscallsMapLatencies].Lookup(syscallsLatencyKey{Slot: slot, Syscall: n}, &l)
		if err == nil {
			s.Latency = l.Buckets[:]
		} else if !errors.Is(err, cebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("syscalls of cgroup %d: %w", w.cgroup, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// Accepted is when an accept of the container first returned a connection since the watch
// began, by the clock of the boot; 0 if none has. The watch must ask for it.
func (w *Watch) Accepted() (time.Duration, error) {
	w.programs.watching.mu.Lock()
	defer w.programs.watching.mu.Unlock()
	o, slot, err := w.slot()
	if err != nil {
		return 0, err
	}
	var state syscallsWatch
	if err := o.maps[syscallsMapWatches].Lookup(slot, &state); err != nil {
		return 0, fmt.Errorf("first accept of cgroup %d: %w", w.cgroup, err)
	}
	return time.Duration(state.Accepted), nil
}

// Call is one syscall that the flight recorder holds.
type Call struct {
	// Time is when it returned, or its thread ended in it, by the clock of the boot.
	Time    time.Duration
	Number  int
	Foreign bool // of the machine's other table, a 32-bit program's
	// Arguments are the first three as they were at the end of the call.
	Arguments [3]uint64
	// Result is what it returned; see Error. Unfinished calls have none.
	Result     int64
	Unfinished bool
	TID        int
	Comm       string
}

// Error is what the call failed with, 0 if it did not.
func (c Call) Error() unix.Errno {
	if c.Result < 0 && c.Result >= -4095 {
		return unix.Errno(-c.Result)
	}
	return 0
}

// Flight is what a container did last.
type Flight struct {
	// Calls are in the order of their ends, at most the last 256.
	Calls []Call
	// Missed counts calls that were recorded and overwritten.
	Missed uint64
	// Ended: PID 1 has ended, with Status, and these are the calls up to then.
	Ended  bool
	Status unix.WaitStatus
}

// Flight reads the recorder. While the container runs, calls being written are left out.
func (w *Watch) Flight() (Flight, error) {
	w.programs.watching.mu.Lock()
	defer w.programs.watching.mu.Unlock()
	o, slot, err := w.slot()
	if err != nil {
		return Flight{}, err
	}
	var state syscallsWatch
	if err := o.maps[syscallsMapWatches].Lookup(slot, &state); err != nil {
		return Flight{}, fmt.Errorf("last syscalls of cgroup %d: %w", w.cgroup, err)
	}
	type numbered struct {
		sequence uint64
		Call
	}
	var calls []numbered
	for n := range uint32(syscallsBoundFLIGHT) {
		var c syscallsCall
		if err := o.maps[syscallsMapFlight].Lookup(slot*uint32(syscallsBoundFLIGHT)+n, &c); err != nil {
			return Flight{}, fmt.Errorf("last syscalls of cgroup %d: %w", w.cgroup, err)
		}
		if c.Sequence == 0 {
			continue
		}
		call := Call{Time: time.Duration(c.Time), Number: int(c.Syscall), Arguments: c.Arguments, Result: c.Result,
			Unfinished: c.Unfinished != 0, TID: int(c.Tid), Comm: text(c.Comm[:])}
		call.Foreign, call.Number = call.Number&foreign != 0, call.Number&^foreign
		calls = append(calls, numbered{c.Sequence, call})
	}
	slices.SortFunc(calls, func(a, b numbered) int { return cmp.Compare(a.sequence, b.sequence) })
	f := Flight{Ended: state.Ended != 0, Status: unix.WaitStatus(state.Status)}
	for _, c := range calls {
		f.Calls = append(f.Calls, c.Call)
	}
	if state.Calls > uint64(len(calls)) {
		f.Missed = state.Calls - uint64(len(calls))
	}
	return f, nil
}
