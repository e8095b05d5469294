package ebpf

import (
	"errors"
	"fmt"
	"time"

	cebpf "github.com/cilium/ebpf"
)

// Start is how a container began. Times are the clock of the boot, suspend included; 0
// is what has not happened yet. First output is not here: no tracepoint but the
// syscalls' sees it, and the monitor has the bytes.
type Start struct {
	// Cloned is when PID 1 was made, Exec its first execve that succeeded.
	Cloned, Exec time.Duration
	// Listen is when a process of the container first listened on a TCP port, Port.
	Listen time.Duration
	Port   int
	// Connection is when the kernel first established a connection to that port, which is
	// before an accept can return it.
	Connection       time.Duration
	AtExec, AtListen Use
}

// Use is what the process that came to a moment had used by then: its first 64 threads
// and all that had ended. The counters begin with the process, not with the execve.
type Use struct {
	MinorFaults, MajorFaults uint64
	// ReadBytes came from a disk, not from the page cache.
	ReadBytes uint64
}

// StartProfile returns what is known by now; all zero if PID 1 has not executed anything, or the
// cgroup is not tracked.
func (p *Programs) StartProfile(cgroup uint64) (Start, error) {
	var s programsStart
	err := p.maps[programsMapStarts].Lookup(cgroup, &s)
	if errors.Is(err, cebpf.ErrKeyNotExist) {
		return Start{}, nil
	}
	if err != nil {
		return Start{}, fmt.Errorf("start of cgroup %d: %w", cgroup, err)
	}
	return Start{time.Duration(s.Cloned), time.Duration(s.Exec), time.Duration(s.Listen), int(s.Port),
		time.Duration(s.Connection), use(s.AtExec), use(s.AtListen)}, nil
}

func use(u programsUse) Use { return Use{u.MinorFaults, u.MajorFaults, u.ReadBytes} }
