package lifecycle

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
)

// index is what the daemon knows in memory: a mirror of the records. Listing
// reads it and touches neither disk nor process.
type index struct {
	mu               sync.RWMutex // guards the maps, never held across a step
	sandboxes        map[pod.ID]*sandboxEntry
	containers       map[pod.ID]*containerEntry
	bySandbox        map[pod.ID]map[pod.ID]*containerEntry
	sandboxOrder     order[*sandboxEntry]
	containerOrder   order[*containerEntry]
	sandboxKeys      map[pod.SandboxKey]pod.ID
	containerKeys    map[pod.ContainerKey]pod.ID
	sandboxFlights   map[pod.SandboxKey]*flight
	containerFlights map[pod.ContainerKey]*flight
}

// sandboxEntry is one sandbox in memory.
type sandboxEntry struct {
	lock  lock       // held by the operation that changes the pod
	door  sync.Mutex // guards the order of moves; see door.go
	value atomic.Pointer[pod.Sandbox]
}

// containerEntry is one container in memory.
type containerEntry struct {
	lock    lock       // held by the operation that changes the container
	door    sync.Mutex // guards the order of moves; see door.go
	value   atomic.Pointer[pod.Container]
	monitor atomic.Pointer[client.Monitor] // nil before it was started and after it is lost
	exited  chan struct{}                  // closed when the state became Exited
	// signalled: this daemon has sent the stop signal; guarded by lock.
	signalled bool
}

func newIndex() *index {
	return &index{
		sandboxes: map[pod.ID]*sandboxEntry{}, containers: map[pod.ID]*containerEntry{},
		bySandbox:   map[pod.ID]map[pod.ID]*containerEntry{},
		sandboxKeys: map[pod.SandboxKey]pod.ID{}, containerKeys: map[pod.ContainerKey]pod.ID{},
		sandboxFlights: map[pod.SandboxKey]*flight{}, containerFlights: map[pod.ContainerKey]*flight{},
	}
}

func (x *index) addSandbox(sb pod.Sandbox) *sandboxEntry {
	e := &sandboxEntry{lock: newLock()}
	e.value.Store(&sb)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sandboxes[sb.ID] = e
	x.sandboxOrder.add(e, sb.CreatedAt)
	x.sandboxKeys[sb.Key()] = sb.ID
	return e
}

func (x *index) addContainer(c pod.Container) *containerEntry {
	e := &containerEntry{lock: newLock(), exited: make(chan struct{})}
	e.value.Store(&c)
	if c.State == pod.Exited {
		close(e.exited)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.containers[c.ID] = e
	x.containerOrder.add(e, c.CreatedAt)
	if x.bySandbox[c.SandboxID] == nil {
		x.bySandbox[c.SandboxID] = map[pod.ID]*containerEntry{}
	}
	x.bySandbox[c.SandboxID][c.ID] = e
	x.containerKeys[c.Key()] = c.ID
	return e
}

func (x *index) dropSandbox(sb pod.Sandbox) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.sandboxes[sb.ID]; e != nil {
		x.sandboxOrder.drop(e, sb.CreatedAt)
	}
	delete(x.sandboxes, sb.ID)
	if x.sandboxKeys[sb.Key()] == sb.ID {
		delete(x.sandboxKeys, sb.Key())
	}
}

func (x *index) dropContainer(c pod.Container) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.containers[c.ID]; e != nil {
		x.containerOrder.drop(e, c.CreatedAt)
	}
	delete(x.containers, c.ID)
	if delete(x.bySandbox[c.SandboxID], c.ID); len(x.bySandbox[c.SandboxID]) == 0 {
		delete(x.bySandbox, c.SandboxID)
	}
	if x.containerKeys[c.Key()] == c.ID {
		delete(x.containerKeys, c.Key())
	}
}

func (x *index) sandbox(id string) (*sandboxEntry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return find(x.sandboxes, "sandbox", id)
}

func (x *index) container(id string) (*containerEntry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return find(x.containers, "container", id)
}

// find takes a whole ID or a prefix that fits one object.
func find[E any](objects map[pod.ID]E, what, id string) (found E, err error) {
	if e, ok := objects[pod.ID(id)]; ok {
		return e, nil
	}
	if id == "" {
		return found, fmt.Errorf("%w: empty %s id", pod.ErrInvalid, what)
	}
	matches := 0
	for candidate, e := range objects {
		if strings.HasPrefix(string(candidate), id) {
			found, matches = e, matches+1
		}
	}
	switch matches {
	case 1:
		return found, nil
	case 0:
		return found, fmt.Errorf("%s %q: %w", what, id, pod.ErrNotFound)
	default:
		return found, fmt.Errorf("%w: %s id %q fits %d of them", pod.ErrInvalid, what, id, matches)
	}
}

// allSandboxes are newest first.
func (x *index) allSandboxes() []*sandboxEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.sandboxOrder.newestFirst()
}

// allContainers are newest first.
func (x *index) allContainers() []*containerEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.containerOrder.newestFirst()
}

func (x *index) containersOf(sandbox pod.ID) []*containerEntry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var all []*containerEntry
	for _, e := range x.bySandbox[sandbox] {
		all = append(all, e)
	}
	return all
}
