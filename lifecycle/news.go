package lifecycle

import "sync"

// news are the cgroups of which the kernel has told that there is something new to look
// up, and not what: what comes while one is looked at is looked up with the next, once.
// The zero value is nobody; begin comes before the rest.
type news struct {
	mu   sync.Mutex // guards all
	all  map[uint64]bool
	wake chan struct{} // holds one
	// one is held from looking up to putting on record: what is older must not take the
	// place of the last.
	one sync.Mutex
}

func (n *news) begin() { n.all, n.wake = map[uint64]bool{}, make(chan struct{}, 1) }

func (n *news) note(cgroup uint64) {
	n.mu.Lock()
	n.all[cgroup] = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default: // it will be looked at
	}
}

func (n *news) take() map[uint64]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.all
	n.all = map[uint64]bool{}
	return all
}
