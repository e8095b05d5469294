// Package calls puts what the kernel's programs counted of a container's system calls
// into the words of its record: names, times by the clock on the wall, latencies as
// quantiles. It is pure, for rooms that do not know the programs.
package calls

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/pod"
)

// What the programs tell, for rooms that do not know them.
type (
	Options = ebpf.WatchOptions
	Count   = ebpf.Syscall
	Flight  = ebpf.Flight
)

// Since is what was counted between two looks at one watch.
func Since(before, now []Count) []Count {
	was := map[int]Count{}
	for _, c := range before {
		was[c.Number] = c
	}
	var list []Count
	for _, c := range now {
		old := was[c.Number]
		c.Calls, c.Errors, c.Refused = c.Calls-old.Calls, c.Errors-old.Errors, c.Refused-old.Refused
		if c.Calls == 0 {
			continue
		}
		if len(old.Latency) > 0 {
			c.Latency = slices.Clone(c.Latency)
			for i, n := range old.Latency {
				c.Latency[i] -= n
			}
		}
		list = append(list, c)
	}
	return list
}

// Record is what a container's record keeps, those called most often first.
func Record(counted []Count) []pod.Syscall {
	list := []pod.Syscall{}
	for _, c := range counted {
		s := pod.Syscall{Number: c.Number, Name: ebpf.SyscallName(c.Number), Calls: c.Calls, Errors: c.Errors, Refused: c.Refused, Answer: int(c.Answer)}
		for i, n := range c.Latency {
			if n > 0 {
				s.Samples += n
				s.Buckets = c.Latency[:i+1]
			}
		}
		if s.Samples > 0 {
			s.P50, s.P90, s.P99 = c.Quantile(0.5), c.Quantile(0.9), c.Quantile(0.99)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b pod.Syscall) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Profile is the seccomp profile of what was learned; see ebpf.Profile. What was not
// watched for it, or holds calls that no profile can name, is pod.ErrUnsupported.
func Profile(learned pod.Syscalls) (*specs.LinuxSeccomp, error) {
	if !learned.Learned {
		return nil, fmt.Errorf("%w: its calls were counted, not learned", pod.ErrUnsupported)
	}
	counted := make([]Count, len(learned.Calls))
	for i, s := range learned.Calls {
		counted[i] = Count{Number: s.Number, Calls: s.Calls, Errors: s.Errors, Refused: s.Refused, Answer: unix.Errno(s.Answer)}
	}
	profile, err := ebpf.Profile(counted)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pod.ErrUnsupported, err)
	}
	return profile, nil
}

// Recorded is a flight recorder's content as a record keeps it. now is the present
// moment by both clocks.
func Recorded(f Flight, now time.Time, sinceBoot time.Duration) *pod.Flight {
	r := &pod.Flight{Missed: f.Missed, Calls: []pod.Call{}}
	for _, c := range f.Calls {
		call := pod.Call{At: now.Add(c.Time - sinceBoot), TID: c.TID, Command: c.Comm, Name: ebpf.SyscallName(c.Number), Unfinished: c.Unfinished}
		if c.Foreign {
			call.Name = fmt.Sprintf("32-bit %d", c.Number)
		}
		if !c.Unfinished {
			call.Arguments = []pod.Word{pod.Word(c.Arguments[0]), pod.Word(c.Arguments[1]), pod.Word(c.Arguments[2])}
			call.Result = c.Result
		}
		if e := c.Error(); e != 0 {
			call.Error = cmp.Or(unix.ErrnoName(e), fmt.Sprintf("error %d", int(e)))
		}
		r.Calls = append(r.Calls, call)
	}
	return r
}
