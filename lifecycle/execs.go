package lifecycle

import (
	"context"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// execs are the processes that execs started, so that the kernel's word of a kill can be
// told as that of an exec's process. The zero value is ready, and safe for concurrent use.
type execs struct {
	mu     sync.Mutex // guards all
	begun  map[*execed]bool
	ended  [keptExecs]*execed // a ring: the kernel's word of a kill may come after the exec's end
	oldest int
}

// keptExecs bounds the execs that are remembered after their end, of all containers.
const keptExecs = 256

// openingBound is how long a kill waits to learn whose it was, where an exec has begun and
// its process is not named yet. It is then told as a child's.
const openingBound = 10 * time.Second

// execed is one exec. Its times are the clock of the boot.
type execed struct {
	of       *execs
	id       pod.ID // the container's
	pid      int    // 0 until it is known
	from, to time.Duration
	named    chan struct{} // closed when the process is known, or there is none
	once     sync.Once
}

// begin is called before the process can be.
func (x *execs) begin(id pod.ID) *execed {
	e := &execed{of: x, id: id, from: sinceBoot(), named: make(chan struct{})}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.begun == nil {
		x.begun = map[*execed]bool{}
	}
	x.begun[e] = true
	return e
}

// is says which process the exec started.
func (e *execed) is(pid int) {
	e.of.mu.Lock()
	e.pid = pid
	e.of.mu.Unlock()
	e.once.Do(func() { close(e.named) })
}

// end is called when the process has ended, or will not be.
func (e *execed) end() {
	e.once.Do(func() { close(e.named) })
	x := e.of
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.begun, e)
	if e.pid == 0 {
		return
	}
	e.to = sinceBoot()
	x.ended[x.oldest] = e
	x.oldest = (x.oldest + 1) % keptExecs
}

// had says whether the process was one that an exec in the container had started, at a
// moment: its number may have been another's before, and may be another's now.
func (x *execs) had(id pod.ID, pid int, at time.Duration) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for e := range x.begun {
		if e.id == id && e.pid == pid && e.from <= at {
			return true
		}
	}
	for _, e := range x.ended {
		if e != nil && e.id == id && e.pid == pid && e.from <= at && at <= e.to {
			return true
		}
	}
	return false
}

// opening waits until the processes are known of the container's execs that had begun at a
// moment. It is nil where there is nothing to wait for.
func (x *execs) opening(id pod.ID, at time.Duration) func(context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var unnamed []chan struct{}
	for e := range x.begun {
		select {
		case <-e.named:
		default:
			if e.id == id && e.from <= at {
				unnamed = append(unnamed, e.named)
			}
		}
	}
	if unnamed == nil {
		return nil
	}
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, openingBound)
		defer cancel()
		for _, named := range unnamed {
			select {
			case <-named:
			case <-ctx.Done():
				return
			}
		}
	}
}
