package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/cdi"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Plugins are programs of the administrator that are told of every step and may adjust
// containers; lifecycle/nri implements it. An error of a step towards a running pod
// fails that step. An error of a step towards its end is only told: a plugin must not
// keep a pod from going away.
type Plugins interface {
	RunSandbox(context.Context, pod.Sandbox) error
	UpdateSandbox(ctx context.Context, sb pod.Sandbox, overhead, res *runtime.LinuxContainerResources) error
	PostUpdateSandbox(context.Context, pod.Sandbox) error
	StopSandbox(context.Context, pod.Sandbox) error
	RemoveSandbox(context.Context, pod.Sandbox) error
	// CreateContainer edits the specification and returns the limits it has changed, nil for none.
	CreateContainer(context.Context, pod.Sandbox, pod.Container, *specs.Spec) (*runtime.LinuxContainerResources, error)
	PostCreateContainer(context.Context, pod.Sandbox, pod.Container) error
	StartContainer(context.Context, pod.Sandbox, pod.Container) error
	PostStartContainer(context.Context, pod.Sandbox, pod.Container) error
	// UpdateContainer returns the limits to apply in the request's place.
	UpdateContainer(context.Context, pod.Sandbox, pod.Container, *runtime.LinuxContainerResources) (*runtime.LinuxContainerResources, error)
	PostUpdateContainer(context.Context, pod.Sandbox, pod.Container) error
	StopContainer(context.Context, pod.Sandbox, pod.Container) error
	RemoveContainer(context.Context, pod.Sandbox, pod.Container) error
}

// tell runs one event of a container where there are plugins; the container is the one
// on record now.
func (m *Manager) tell(ctx context.Context, e *containerEntry, event func(Plugins, context.Context, pod.Sandbox, pod.Container) error) error {
	if m.plugins == nil {
		return nil
	}
	c := *e.value.Load()
	return event(m.plugins, ctx, m.ownerOf(c), c)
}

// ownerOf is the container's sandbox; with its ID alone when it has gone already.
func (m *Manager) ownerOf(c pod.Container) pod.Sandbox {
	if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil {
		return *owner.value.Load()
	}
	return pod.Sandbox{ID: c.SandboxID}
}

// tellStopped tells plugins that a container has ended. Whoever ended it waits for
// their answers, but not for their consent.
func (m *Manager) tellStopped(ctx context.Context, e *containerEntry) {
	warn(ctx, "tell plugins of a container's end", m.tell(ctx, e, Plugins.StopContainer), "container", e.value.Load().ID)
}

// awaitTold returns when plugins have been told of the end of a container that is
// Exited: its lock is held until they have answered. So the end of a pod is told after
// the ends of its containers, and a stop returns when plugins know of it.
func (m *Manager) awaitTold(ctx context.Context, e *containerEntry) error {
	if m.plugins == nil {
		return nil
	}
	if err := e.lock.acquire(ctx, e.value.Load().ID); err != nil {
		return err
	}
	e.lock.release()
	return nil
}

// askPlugins lets plugins adjust the container that is about to be made.
func (p *plan) askPlugins(ctx context.Context) error {
	m, c := p.manager, p.container
	before := slices.Clone(p.spec.Linux.Namespaces)
	changed, err := m.plugins.CreateContainer(ctx, p.sandbox, *c, p.spec)
	if err != nil {
		return err
	}
	if changed != nil {
		res := c.Config.GetLinux().GetResources()
		c.Resources = &pod.Resources{LinuxContainerResources: spec.MergeResources(res, changed)}
	}
	if adj := p.spec.Process.OOMScoreAdj; adj != nil && *adj < m.host.Facts.MinOOMScoreAdj {
		*adj = m.host.Facts.MinOOMScoreAdj
		m.host.Warn("a plugin's oom_score_adj is below what this daemon may set", "container", c.ID, "set", *adj)
	}
	if p.handler.external() && len(p.spec.Linux.NetDevices) > 0 {
		return fmt.Errorf("%w: a plugin brings network devices, which only the native handler is known to move", pod.ErrUnsupported)
	}
	if !slices.Equal(before, p.spec.Linux.Namespaces) {
		m.host.Warn("a plugin changed a container's namespaces", "container", c.ID)
	}
	return nil
}

// InjectCDI resolves devices that plugins ask for, as those of requests are.
func (c Config) InjectCDI(s *specs.Spec, names []string) error {
	return cdi.Inject(s, c.CDISpecDirs, names)
}

// Specification is the OCI specification that the container was made from; fs.ErrNotExist before it
// is written and after the container is removed. It is the caller's.
func (m *Manager) Specification(id pod.ID) (*specs.Spec, error) {
	raw, err := host.ReadBounded(filepath.Join(m.store.ContainerDir(id), "config.json"), maxSpec)
	if err != nil {
		return nil, fmt.Errorf("read specification of %s: %w", id.Short(), err)
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("read specification of %s: %w", id.Short(), err)
	}
	return s, nil
}

// maxSpec bounds a specification, in bytes: kubelet's requests end at 16 MiB.
const maxSpec = 32 << 20

// AdjustResources is UpdateResources on behalf of a plugin: no plugin is told.
func (m *Manager) AdjustResources(ctx context.Context, id string, res *runtime.LinuxContainerResources) error {
	return m.updateResources(ctx, id, res, nil)
}
