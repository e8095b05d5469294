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
	"github.com/vitrine-runtime/vitrine/lifecycle/cdi"
	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/lifecycle/events"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Config is what an administrator may choose. The zero value works.
type Config struct {
	// StateDir holds records, bundles and sockets; on tmpfs. Set by the daemon's
	// --state, not in the file.
	StateDir string `toml:"-"`
	// MonitorPath and LaunchPath are the binaries; empty means beside the daemon's own.
	MonitorPath string `toml:"monitor_path"`
	LaunchPath  string `toml:"launch_path"`
	// ShimLaunchPath is the binary that speaks to shims; empty means vitrine-shim beside the daemon's own.
	ShimLaunchPath string `toml:"shim_launch_path"`
	// DefaultHandler serves requests that name no runtime handler; empty means "native".
	DefaultHandler string `toml:"default_handler"`
	// Handlers are OCI runtimes and containerd shims by handler name, beside the built-in "native".
	Handlers map[string]Handler `toml:"handlers"`
	// CreateTimeout bounds RunPodSandbox and CreateContainer, in seconds, independent
	// of the client's own deadline: a retry joins the attempt in progress. 0 means 240.
	CreateTimeoutSeconds int `toml:"create_timeout_seconds"`
	// SeccompProfile is a JSON file that replaces the built-in RuntimeDefault profile; empty keeps it.
	SeccompProfile string `toml:"seccomp_profile"`
	// ShmSize is the size of a pod's /dev/shm in bytes; 0 means 64 MiB.
	ShmSize int64 `toml:"shm_size"`
	// MonitorOOMScoreAdj protects monitors from the OOM killer; 0 means -999,
	// clamped to what the daemon may set.
	MonitorOOMScoreAdj int `toml:"monitor_oom_score_adj"`
	// MonitorCgroup is whose accounts and limits monitors are under, in a cgroup
	// "vitrine-monitors" below it: "pod" is each pod's own, anything else a slice or an
	// absolute path in cgroupfs. Launchers and what they need count there too; the OOM killer
	// leaves monitors alone as far as MonitorOOMScoreAdj says. Empty: the daemon's.
	MonitorCgroup string `toml:"monitor_cgroup"`
	// SpareMonitors is how many monitors, each with a launcher, are begun before a container
	// asks for one, which then starts some milliseconds sooner: as many that are made at once
	// gain by it. Each takes some MiB of memory. 0 means 1; -1 keeps none, and neither does a
	// MonitorCgroup of "pod".
	SpareMonitors int `toml:"spare_monitors"`
	// LibcontainerOnly has libcontainer make all containers of the native handler. Without
	// it, ordinary ones are made in a fraction of the time, and what is not ordinary is its.
	LibcontainerOnly bool `toml:"libcontainer_only"`
	// CriuPath is the program criu that checkpoints are made with, an absolute path that ends
	// in /criu; empty means the one in PATH. Where there is none, or it does not work on
	// this kernel, checkpoints are refused and all else works.
	CriuPath string `toml:"criu_path"`
	// HooksDir holds OCI hooks that every container gets, JSON in the format of
	// oci-hooks(5); empty means none.
	HooksDir string `toml:"hooks_dir"`
	// Defaults are wishes for all containers.
	Defaults host.ContainerDefaults `toml:"defaults"`
	// CDISpecDirs are directories of CDI specifications, the last one winning; empty
	// means /etc/cdi and /var/run/cdi. They are read when a container asks for a device.
	CDISpecDirs []string `toml:"cdi_spec_dirs"`
	// Annotations are patterns, as of path.Match, of pod annotations that are obeyed
	// (io.vitrine.log.*, io.vitrine.syscalls, .denials, .learn, .flight, .accept,
	// .seccomp.notifier; CRI-O's io.kubernetes.cri-o.Devices, .ShmSize and .umask,
	// devices.crio.io, shm-size.crio.io and umask.crio.io) and passed to the runtime;
	// empty means none.
	Annotations []string `toml:"annotations"`
	// AllowedDevices are host devices that a pod may ask for by the annotation
	// io.kubernetes.cri-o.Devices (devices.crio.io), which Annotations has to name too;
	// empty means none.
	AllowedDevices []string `toml:"allowed_devices"`
	// Log is what happens to the output of containers whose pods say nothing else.
	Log spec.LogOptions `toml:"log"`
	// Observe is what is noted of the system calls of containers whose pods say nothing else.
	Observe spec.ObserveOptions `toml:"observe"`
	// TelemetrySocket is where monitors report; set by the daemon.
	TelemetrySocket string `toml:"-"`
}

// native is the built-in handler: libcontainer in vitrine-launch.
const native = "native"

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
	ports      hostPorts
	podCgroups podCgroups

	ctx    context.Context // ends with Close; work that outlives a request hangs on it
	cancel context.CancelFunc
	work   sync.WaitGroup // creations in flight and exit watchers
}

// New opens the records below config.StateDir. Call Recover before serving. ctx is
// used for the tracer that it carries, not for its end.
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
	m.refused.begin()
	m.starts.begin()
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return m, nil
}

// Close stops watching and waits for what is in flight to be undone. Containers go on.
func (m *Manager) Close() {
	m.cancel()
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
}

// host are the settings that are about the host.
func (c Config) host() host.Settings {
	return host.Settings{
		SeccompProfile: c.SeccompProfile, HooksDir: c.HooksDir, Defaults: c.Defaults,
		AllowedDevices: c.AllowedDevices, Annotations: c.Annotations, ShmSize: c.shmSize(),
	}
}

// handler finds a runtime handler by name; empty means the default one.
func (c Config) handler(name string) (Handler, error) {
	if name = cmp.Or(name, c.DefaultHandler, native); name == native {
		return Handler{}, nil
	}
	if h, ok := c.Handlers[name]; ok {
		return h, nil
	}
	return Handler{}, fmt.Errorf("%w: unknown runtime handler %q", pod.ErrInvalid, name)
}

func (c Config) createTimeout() time.Duration {
	return time.Duration(c.Effective().CreateTimeoutSeconds) * time.Second
}

// Effective is the configuration with its zero values replaced by what they mean.
func (c Config) Effective() Config {
	c.DefaultHandler = cmp.Or(c.DefaultHandler, native)
	c.CreateTimeoutSeconds = cmp.Or(c.CreateTimeoutSeconds, 240)
	c.MonitorOOMScoreAdj = cmp.Or(c.MonitorOOMScoreAdj, -999)
	c.SpareMonitors = cmp.Or(c.SpareMonitors, 1)
	c.ShmSize = c.shmSize()
	if len(c.CDISpecDirs) == 0 {
		c.CDISpecDirs = cdi.DefaultSpecDirs
	}
	return c
}

// Sandbox returns a sandbox by ID or unique prefix. One that is still being made
// does not exist yet.
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

// Container returns a container by ID or unique prefix. One that is still being
// made does not exist yet.
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
