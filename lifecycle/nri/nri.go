// Package nri serves plugins of the Node Resource Interface
// (https://github.com/containerd/nri): programs of the administrator that are told of
// every step in the life of pods and containers, and may adjust a container before it
// is made and the limits of others at any time. It owns the socket, the conversation
// and what of it is on record in spans; it never changes state itself: a change that
// a plugin asks for goes through the Host, which is lifecycle's ordinary path.
//
// Two promises. A plugin that joins while pods run loses nothing: between the list of
// what is there, which it gets first, and the events that follow, none is missing. And
// a plugin that hangs costs each event at most the request timeout, once: it is cut off
// then, and its name is in the log, in the span and in `vitrine status`' phase.
package nri

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Config is what an administrator may choose. The zero value works.
type Config struct {
	// Socket is where plugins connect. Empty: plugins are not served at all. It is the
	// daemon's nri_socket.
	Socket string `toml:"-"`
	// PluginDir holds plugins that are started with the daemon, executables named
	// NN-NAME; empty means /opt/nri/plugins.
	PluginDir string `toml:"plugin_dir"`
	// PluginConfigDir holds their configurations, NAME.conf; empty means /etc/nri/conf.d.
	PluginConfigDir string `toml:"plugin_config_dir"`
	// RequestTimeoutMilliseconds bounds each answer of a plugin; one that takes longer
	// is cut off. 0 means 2000.
	RequestTimeoutMilliseconds int `toml:"request_timeout_ms"`
	// RegistrationTimeoutMilliseconds bounds how long a plugin that has connected may
	// take to say its name. 0 means 5000.
	RegistrationTimeoutMilliseconds int `toml:"registration_timeout_ms"`
}

// Effective is the configuration with its zero values replaced by what they mean.
func (c Config) Effective() Config {
	c.PluginDir = cmp.Or(c.PluginDir, adaptation.DefaultPluginPath)
	c.PluginConfigDir = cmp.Or(c.PluginConfigDir, adaptation.DefaultPluginConfigPath)
	c.RequestTimeoutMilliseconds = cmp.Or(c.RequestTimeoutMilliseconds, int(adaptation.DefaultPluginRequestTimeout.Milliseconds()))
	c.RegistrationTimeoutMilliseconds = cmp.Or(c.RegistrationTimeoutMilliseconds, int(adaptation.DefaultPluginRegistrationTimeout.Milliseconds()))
	return c
}

// Host is what plugins see and act on. Its methods tell no plugin of what they do.
type Host interface {
	Sandboxes() []pod.Sandbox
	Containers() []pod.Container
	// Specification is the one that the container was made from.
	Specification(pod.ID) (*specs.Spec, error)
	// AdjustResources changes the limits of a container that has not ended.
	AdjustResources(ctx context.Context, id string, res *runtime.LinuxContainerResources) error
	// StopContainer ends a container that a plugin evicts.
	StopContainer(ctx context.Context, id string, timeout time.Duration) error
}

// Plugins are the plugins of this node. Its methods are safe for concurrent use; until
// Start they reach nobody. Each tells every plugin in turn, in the order of their
// indices, and is an error only when a plugin refuses the request, or does not answer
// and has asked for that to be an error.
type Plugins struct {
	runtime *adaptation.Adaptation
	inject  func(*specs.Spec, []string) error
	host    Host
	ctx     context.Context // of the daemon; ends with Close
	cancel  context.CancelFunc
	work    sync.WaitGroup // evictions

	turn sync.Mutex // held while plugins are told of one event: they are told one after the other

	mu      sync.Mutex             // guards the fields below; nothing is called while it is held
	event   context.Context        // of the event being told; its span is the parent of each plugin's
	arrived map[pod.ID]arriving    // told of and not yet in the Host's lists
	took    map[call]time.Duration // of calls whose outcome is about to be told
}

// arriving is a sandbox or container that is still being made.
type arriving struct {
	sandbox   *adaptation.PodSandbox
	container *adaptation.Container // nil for a sandbox
}

// New prepares to serve plugins; version is the daemon's, inject resolves CDI devices
// that plugins ask for. ctx is used for the tracer that it carries, not for its end.
func New(ctx context.Context, config Config, version string, inject func(*specs.Spec, []string) error) (*Plugins, error) {
	config = config.Effective()
	p := &Plugins{inject: inject, arrived: map[pod.ID]arriving{}, took: map[call]time.Duration{}}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.event = p.ctx
	nrilog.Set(logger{})
	adaptation.SetPluginRequestTimeout(time.Duration(config.RequestTimeoutMilliseconds) * time.Millisecond)
	adaptation.SetPluginRegistrationTimeout(time.Duration(config.RegistrationTimeoutMilliseconds) * time.Millisecond)
	var err error
	p.runtime, err = adaptation.New("vitrine", version, p.synchronize, p.unsolicited,
		adaptation.WithSocketPath(config.Socket), adaptation.WithPluginPath(config.PluginDir),
		adaptation.WithPluginConfigPath(config.PluginConfigDir), adaptation.WithMetrics(observer{p}))
	if err != nil {
		return nil, fmt.Errorf("prepare for plugins: %w", err)
	}
	return p, nil
}

// Start runs the plugins of the plugin directory and accepts others from now on.
func (p *Plugins) Start(host Host) error {
	p.host = host
	if err := p.runtime.Start(); err != nil {
		return fmt.Errorf("serve plugins: %w", err)
	}
	return nil
}

// Close ends the connections and the plugins that Start has run, and waits for
// evictions in progress, which end with the Host's own operations.
func (p *Plugins) Close() error {
	p.runtime.Stop()
	p.cancel()
	p.work.Wait()
	return nil
}

// synchronize gives a plugin that joins the list of what is there. The library holds
// every event back until the plugin is on the list of those that are told.
func (p *Plugins) synchronize(_ context.Context, tell adaptation.SyncCB) error {
	pods, containers := p.present()
	updates, err := tell(p.ctx, pods, containers)
	if err != nil {
		return err
	}
	_, err = p.unsolicited(p.ctx, updates)
	return err
}

// present lists what plugins have been told of. What has been removed is no longer
// there for them; what has been asked about and is still being made is.
func (p *Plugins) present() (pods []*adaptation.PodSandbox, containers []*adaptation.Container) {
	sandboxes, made := p.host.Sandboxes(), p.host.Containers()
	p.mu.Lock()
	for _, sb := range sandboxes {
		delete(p.arrived, sb.ID)
	}
	for _, c := range made {
		delete(p.arrived, c.ID)
	}
	arrived := maps.Clone(p.arrived)
	p.mu.Unlock()
	for _, sb := range sandboxes {
		pods = append(pods, sandboxOf(sb))
	}
	for _, c := range made {
		containers = append(containers, containerOf(c, p.specification(c.ID)))
	}
	for _, a := range arrived {
		if a.container != nil {
			containers = append(containers, a.container)
		} else {
			pods = append(pods, a.sandbox)
		}
	}
	return pods, containers
}

// arrive and settled say whether something is still being made.
func (p *Plugins) arrive(id pod.ID, a arriving) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived[id] = a
}

func (p *Plugins) settled(id pod.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.arrived, id)
}

// specification is nil where it cannot be had: plugins then see what the request says.
func (p *Plugins) specification(id pod.ID) *specs.Spec {
	s, err := p.host.Specification(id)
	if err != nil {
		slog.Warn("a container's specification cannot be read for plugins", "container", id, "error", err)
	}
	return s
}

// unsolicited performs changes of limits that a plugin asks for on its own account,
// and returns those that could not be made.
func (p *Plugins) unsolicited(ctx context.Context, updates []*adaptation.ContainerUpdate) (failed []*adaptation.ContainerUpdate, err error) {
	for _, u := range updates {
		if err := p.update(ctx, u); err != nil {
			slog.WarnContext(ctx, "a plugin's change of limits was not made", "container", u.GetContainerId(), "error", err)
			failed = append(failed, u)
		}
	}
	return failed, nil
}

// updateBound is how long one change of limits may wait for its container.
const updateBound = 10 * time.Second

func (p *Plugins) update(ctx context.Context, u *adaptation.ContainerUpdate) error {
	if u.GetLinux().GetResources().GetPids() != nil {
		return fmt.Errorf("%w: a plugin's pids after the creation", pod.ErrUnsupported)
	}
	res, err := toCRI(u.GetLinux().GetResources())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, updateBound)
	defer cancel()
	return p.host.AdjustResources(ctx, u.GetContainerId(), res)
}

// perform does what plugins asked for others when they were told of an event. A change
// that fails and may not is the event's error.
func (p *Plugins) perform(ctx context.Context, updates []*adaptation.ContainerUpdate, evictions []*adaptation.ContainerEviction) error {
	for _, u := range updates {
		if err := p.update(ctx, u); err != nil {
			if !u.GetIgnoreFailure() {
				return fmt.Errorf("plugin's change of limits of container %.13s: %w", u.GetContainerId(), err)
			}
			slog.WarnContext(ctx, "a plugin's change of limits was not made", "container", u.GetContainerId(), "error", err)
		}
	}
	for _, e := range evictions {
		slog.WarnContext(ctx, "a plugin evicts a container", "container", e.GetContainerId(), "reason", e.GetReason())
		p.work.Add(1)
		go func() { // its end is told to plugins, so not from inside an event
			defer p.work.Done()
			if err := p.host.StopContainer(p.ctx, e.GetContainerId(), 0); err != nil {
				slog.WarnContext(p.ctx, "evict a container", "container", e.GetContainerId(), "error", err)
			}
		}()
	}
	return nil
}
