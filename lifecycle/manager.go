package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/lifecycle/events"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Rooms are what lifecycle works with. The caller owns them and closes them after
// the Manager.
type Rooms struct {
	Images  *image.Store
	Network *network.Network
	Cgroups *cgroup.Cgroups
	// Plugins may be nil.
	Plugins Plugins
	// Witness observes containers from inside the kernel; nil where that cannot be done.
	Witness Witness
}

// Manager is the door to all pods. It is safe for concurrent use.
type Manager struct {
	config  Config
	host    host.Host
	store   *pod.Store
	images  *image.Store
	network *network.Network
	cgroups *cgroup.Cgroups
	plugins Plugins // nil for none
	witness Witness // nil without one
	watched watched
	makings makings
	execs   execs
	refused news // denials
	asked   askedTotal
	stalls  stallTimes
	// logSizes is what logs take on their disk.
	logSizes logSizes
	starts   news // progress of starts
	unmoved  unmoved
	spares   spares
	watches  watches
	// fileSystem is that of writable layers.
	fileSystem fileSystem
	index      *index
	hub        *events.Hub
	ops        *operations
	probes     probes
	criu       checkpoint.Criu
	trust      trust
	enterer    *client.Enterer // nil without its program: the launcher does all exec sessions
	bare       *bareMounts     // nil where containers are born from the host's mounts
	ports      hostPorts
	podCgroups podCgroups

	ctx    context.Context // ends with Close; work that outlives a request hangs on it
	cancel context.CancelFunc
	work   sync.WaitGroup // what is in flight on the daemon's time
	ending sync.Mutex     // guards that attend adds no work once ctx has ended
}

// New opens the records below config.StateDir. Call Recover before serving, and Close at the end.
// ctx is used for the tracer that it carries, not for its end. What Config.Check refuses is
// ErrInvalid.
func New(ctx context.Context, config Config, rooms Rooms) (*Manager, error) {
	store, err := pod.OpenStore(config.StateDir)
	if err != nil {
		return nil, err
	}
	if err := config.Check(); err != nil {
		return nil, err
	}
	found, err := host.Inspect(ctx, config.host(), rooms.Cgroups)
	if err != nil {
		return nil, err
	}
	config.DefaultHandler = cmp.Or(config.DefaultHandler, native)
	if p := config.MonitorCgroup; p != "" && p != forPods {
		if _, err := rooms.Cgroups.Place(p); err != nil {
			return nil, fmt.Errorf("monitor_cgroup: %w", err)
		}
	}
	m := &Manager{
		config: config, host: found, store: store,
		images: rooms.Images, network: rooms.Network, cgroups: rooms.Cgroups, plugins: rooms.Plugins, witness: rooms.Witness,
		index: newIndex(), hub: events.NewHub(), ops: &operations{live: map[*operation]struct{}{}},
	}
	if m.enterer, err = client.OpenEnterer(m.enterPath()); err != nil {
		slog.InfoContext(ctx, "libcontainer does all creations and exec sessions", "cause", err)
	}
	if m.bare, err = newBareMounts(); err != nil {
		slog.InfoContext(ctx, "containers are born from all of the host's mounts", "cause", err)
	}
	m.refused.begin()
	m.starts.begin()
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return m, nil
}

// Close stops watching and waits for what is in flight to be undone. Containers go on.
func (m *Manager) Close() {
	m.ending.Lock()
	m.cancel()
	m.ending.Unlock()
	m.work.Wait()
	m.closeSpares()
	for _, e := range m.index.allContainers() {
		if monitor := e.monitor.Load(); monitor != nil {
			monitor.Close()
		}
	}
	if m.enterer != nil {
		m.enterer.Close()
	}
	m.bare.Close()
}

// Sandbox returns a sandbox by ID or unique prefix. One that is still being made
// does not exist yet: ErrNotFound. A prefix of several is ErrInvalid.
func (m *Manager) Sandbox(id string) (pod.Sandbox, error) {
	e, err := m.index.sandbox(id)
	if err != nil {
		return pod.Sandbox{}, err
	}
	if sb := *e.value.Load(); sb.State != pod.Creating {
		return sb, nil
	}
	return pod.Sandbox{}, fmt.Errorf("sandbox %q: %w", id, pod.ErrNotFound)
}

// Container is Sandbox for containers.
func (m *Manager) Container(id string) (pod.Container, error) {
	e, err := m.index.container(id)
	if err != nil {
		return pod.Container{}, err
	}
	if c := *e.value.Load(); c.State != pod.Creating {
		return c, nil
	}
	return pod.Container{}, fmt.Errorf("container %q: %w", id, pod.ErrNotFound)
}

// SandboxList returns all sandboxes, newest first. They are the values that all readers
// share, and are not to be changed; what changes is another value.
func (m *Manager) SandboxList() []*pod.Sandbox {
	return shown(m.index.allSandboxes(), func(e *sandboxEntry) *pod.Sandbox { return e.value.Load() }, func(sb *pod.Sandbox) pod.State { return sb.State })
}

// ContainerList is SandboxList for containers.
func (m *Manager) ContainerList() []*pod.Container { return containerList(m.index.allContainers()) }

// Sandboxes returns copies of all sandboxes, newest first.
func (m *Manager) Sandboxes() []pod.Sandbox { return copies(m.SandboxList()) }

// Containers returns copies of all containers, newest first.
func (m *Manager) Containers() []pod.Container { return copies(m.ContainerList()) }

// ContainersOf returns copies of the containers of one sandbox, newest first.
func (m *Manager) ContainersOf(sandbox pod.ID) []pod.Container {
	list := containerList(m.index.containersOf(sandbox))
	slices.SortFunc(list, func(a, b *pod.Container) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return copies(list)
}

func containerList(entries []*containerEntry) []*pod.Container {
	return shown(entries, func(e *containerEntry) *pod.Container { return e.value.Load() }, func(c *pod.Container) pod.State { return c.State })
}

// shown are the values of entries but those that are being made, in their order.
func shown[E, T any](entries []E, value func(E) *T, state func(*T) pod.State) []*T {
	list := make([]*T, 0, len(entries))
	for _, e := range entries {
		if v := value(e); state(v) != pod.Creating {
			list = append(list, v)
		}
	}
	return list
}

func copies[T any](list []*T) []T {
	all := make([]T, len(list))
	for i, v := range list {
		all[i] = *v
	}
	return all
}

// Subscribe returns the events from now on. See Subscription.
func (m *Manager) Subscribe(buffer int) *Subscription { return m.hub.Subscribe(buffer) }

// SubscribeReplay is Subscribe for a reader that may have been connected to the daemon
// before this one: see package events.
func (m *Manager) SubscribeReplay(buffer int) *Subscription { return m.hub.SubscribeReplay(buffer) }

// Operations returns what is in flight, oldest first.
func (m *Manager) Operations() []Operation { return m.ops.list() }

// NetworkReady returns nil when pods can be connected, else the reason.
func (m *Manager) NetworkReady() error { return m.network.Ready() }

// CgroupDriver is "cgroupfs" or "systemd".
func (m *Manager) CgroupDriver() string { return m.cgroups.Driver() }

// HugepageSizes are those whose use is limited and measured; none where containers'
// cgroups have no such controller.
func (m *Manager) HugepageSizes() []string { return m.cgroups.HugepageSizes() }

// CheckHandler returns ErrInvalid when no such runtime handler is configured, or its
// shim is not there.
func (m *Manager) CheckHandler(name string) error {
	h, err := m.config.handler(name)
	if err == nil {
		err = h.installed(name)
	}
	return err
}

// background runs do on the daemon's time, not a request's.
func (m *Manager) background(do func(context.Context)) {
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		do(m.ctx)
	}()
}

// attend does on the daemon's time what came by itself, unless the daemon is ending.
func (m *Manager) attend(do func(context.Context)) {
	m.ending.Lock()
	ended := m.ctx.Err() != nil
	if !ended {
		m.work.Add(1)
	}
	m.ending.Unlock()
	if !ended {
		defer m.work.Done()
		do(m.ctx)
	}
}

// detached returns a context that keeps ctx's span but not its end: it ends with
// the daemon or after bound.
func (m *Manager) detached(ctx context.Context, bound time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	stop := context.AfterFunc(m.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func warn(ctx context.Context, message string, err error, args ...any) {
	if err != nil {
		slog.WarnContext(ctx, message, append(args, "error", err)...)
	}
}
