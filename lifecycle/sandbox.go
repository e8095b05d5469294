package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// RunSandbox makes a sandbox and returns its ID. A request for a sandbox that
// exists and is Ready returns that one; a request for one that is being made waits
// for it. Errors: ErrInvalid for the request, ErrExists when the same attempt
// exists and is not Ready, ErrDeadline when ctx ends first (the work goes on).
func (m *Manager) RunSandbox(ctx context.Context, config *runtime.PodSandboxConfig, handler string) (pod.ID, error) {
	if err := m.CheckHandler(handler); err != nil {
		return "", err
	}
	if err := spec.ValidateSandbox(config); err != nil {
		return "", err
	}
	if _, err := network.BandwidthOf(config.GetAnnotations()); err != nil {
		return "", err
	}
	sb := pod.Sandbox{
		ID: pod.NewID(), State: pod.Creating, Config: pod.SandboxConfig{PodSandboxConfig: config}, Handler: handler,
		CreatedAt: time.Now(), Traceparent: telemetry.Traceparent(ctx),
	}
	if _, err := m.wishes(sb, nil); err != nil {
		return "", err
	}
	if userNamespace(sb) != nil && !m.features(handler).UserNamespaces {
		return "", fmt.Errorf("%w: runtime handler %q has no user namespaces on this host", pod.ErrUnsupported, handler)
	}
	x := m.index
	x.mu.Lock()
	if f := x.sandboxFlights[sb.Key()]; f != nil {
		x.mu.Unlock()
		return f.wait(ctx)
	}
	var leftover *sandboxEntry // of an attempt that could not be undone
	if id, exists := x.sandboxKeys[sb.Key()]; exists {
		leftover = x.sandboxes[id]
		if state := leftover.value.Load().State; state == pod.Ready {
			x.mu.Unlock()
			return id, nil
		} else if state != pod.Creating {
			x.mu.Unlock()
			return "", fmt.Errorf("sandbox %s: %w as %s and is %s", sb.Key(), pod.ErrExists, id.Short(), state)
		}
	}
	x.sandboxFlights[sb.Key()] = &flight{done: make(chan struct{})}
	x.mu.Unlock()

	return fly(ctx, m, x.sandboxFlights, sb.Key(), sb.ID, func(ctx context.Context) error {
		if leftover != nil {
			if err := m.clearSandbox(ctx, leftover); err != nil {
				return err
			}
		}
		return m.runSandbox(ctx, sb)
	})
}

func (m *Manager) runSandbox(ctx context.Context, sb pod.Sandbox) (err error) {
	ctx, op := m.ops.begin(ctx, "run_sandbox", subject(sb), sb.ID, telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	var undo undo
	defer func() {
		if err != nil {
			op.enter("undo")
			err = errors.Join(err, undo.run(ctx))
		}
	}()

	claimed := m.ports.begin(sb)
	defer claimed()
	if len(mapped(sb)) > 0 {
		if err := op.step(ctx, "ports", func(context.Context) error { return m.hostPortsFree(sb) }); err != nil {
			return err
		}
	}
	var e *sandboxEntry
	if err := op.step(ctx, "record", func(context.Context) error {
		sb.CgroupParent = podCgroup(sb)
		sb.OwnCgroup = m.ownsCgroup(sb) // on record before it is made
		if err := m.labelSandbox(&sb); err != nil {
			return err
		}
		if err := m.store.PutSandbox(sb); err != nil {
			return err
		}
		e = m.index.addSandbox(sb)
		return nil
	}); err != nil {
		return err
	}
	claimed() // the record has them now
	undo.add("record", func(context.Context) error { return m.forgetSandbox(e, false) })
	m.expectContainer()

	undo.add("files", func(context.Context) error { return removeSandboxFiles(m.store.SandboxDir(sb.ID)) })
	if err := op.step(ctx, "files", func(context.Context) error { return m.writeSandboxFiles(sb) }); err != nil {
		return err
	}

	op.enter("namespaces")
	undo.add("namespaces", func(ctx context.Context) error { return m.network.RemoveNamespaces(ctx, string(sb.ID)) })
	if sb.Namespaces, err = m.network.CreateNamespaces(ctx, namespaceRequest(sb)); err != nil {
		return err
	}

	op.enter("cgroup")
	undo.add("cgroup", func(ctx context.Context) error { return m.removePodCgroup(ctx, sb) })
	made, err := m.createPodCgroup(ctx, sb)
	if sb.OwnCgroup = made || m.sharesCgroup(sb); err != nil {
		return err
	}

	if sharesPID(sb) {
		undo.add("init", func(ctx context.Context) error { return m.stopSandboxInit(ctx, sb) })
		if err := op.step(ctx, "init", func(ctx context.Context) error { return m.startSandboxInit(ctx, &sb) }); err != nil {
			return err
		}
	}

	if ownNetwork(sb) {
		op.enter("network")
		undo.add("network", func(ctx context.Context) error { return m.network.Detach(ctx, attachRequest(sb)) })
		if sb.Network, err = m.network.Attach(ctx, attachRequest(sb)); err != nil {
			return err
		}
	}

	if m.plugins != nil {
		undo.add("plugins", func(ctx context.Context) error {
			warn(ctx, "tell plugins of a pod that was not made", m.plugins.RemoveSandbox(ctx, sb), "sandbox", sb.ID)
			return nil
		})
		if err := op.step(ctx, "plugins", func(ctx context.Context) error { return m.plugins.RunSandbox(ctx, sb) }); err != nil {
			return err
		}
	}
	return op.step(ctx, "ready", func(context.Context) error {
		_, err := m.putSandbox(e, pod.Ready, func(next *pod.Sandbox) { *next = withState(sb, pod.Ready) })
		return err
	})
}

func withState(sb pod.Sandbox, s pod.State) pod.Sandbox {
	sb.State = s
	return sb
}

// StopSandbox ends the pod's containers at once, takes its network and namespaces
// away and leaves the record. It may be called again, also after a failure in the
// middle, and does what is left to do. Unknown id: ErrNotFound.
func (m *Manager) StopSandbox(ctx context.Context, id string) (err error) {
	e, err := m.index.sandbox(id)
	if err != nil {
		return err
	}
	sb := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "stop_sandbox", subject(sb), sb.ID, telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	op.enter("lock")
	if err := e.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer e.lock.release()
	return m.stopSandbox(ctx, op, e)
}

// stopSandbox does the work of StopSandbox under the pod's lock.
func (m *Manager) stopSandbox(ctx context.Context, op *operation, e *sandboxEntry) error {
	sb := *e.value.Load()
	if sb.State != pod.Ready && sb.State != pod.Stopping {
		return nil
	}
	if sb.State == pod.Ready {
		var err error
		if sb, err = m.putSandbox(e, pod.Stopping, nil); err != nil {
			return err
		}
	}
	op.enter("containers")
	if err := m.stopContainers(ctx, sb.ID); err != nil {
		return err
	}
	op.enter("init")
	if err := m.stopSandboxInit(ctx, sb); err != nil {
		return err
	}
	if m.plugins != nil {
		op.enter("plugins")
		warn(ctx, "tell plugins of a stopped pod", m.plugins.StopSandbox(ctx, sb), "sandbox", sb.ID)
	}
	if err := m.disconnect(ctx, op, sb); err != nil {
		return err
	}
	return op.step(ctx, "stopped", func(context.Context) error {
		if err := removeSandboxFiles(m.store.SandboxDir(sb.ID)); err != nil {
			return err
		}
		_, err := m.putSandbox(e, pod.NotReady, func(next *pod.Sandbox) { next.Init, next.StoppedAt = pod.Process{}, time.Now() })
		return err
	})
}

// disconnect takes the network and the namespaces away. A CNI plugin that no longer
// exists must not keep a pod terminating for ever: that is told and passed over.
func (m *Manager) disconnect(ctx context.Context, op *operation, sb pod.Sandbox) error {
	if ownNetwork(sb) {
		op.enter("network")
		err := m.network.Detach(ctx, attachRequest(sb))
		if errors.Is(err, network.ErrPluginMissing) {
			warn(ctx, "pod's network could not be released; its plugin is gone", err, "sandbox", sb.ID)
		} else if err != nil {
			return err
		}
	}
	op.enter("namespaces")
	return m.network.RemoveNamespaces(ctx, string(sb.ID))
}

// RemoveSandbox stops the sandbox if need be, removes its containers and every
// trace of it. Unknown id: ErrNotFound.
func (m *Manager) RemoveSandbox(ctx context.Context, id string) (err error) {
	e, err := m.index.sandbox(id)
	if err != nil {
		return err
	}
	sb := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "remove_sandbox", subject(sb), sb.ID, telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	op.enter("lock")
	if err := e.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer e.lock.release()
	if m.gone(e) {
		return nil // another request removed it while this one waited
	}
	if err := m.stopSandbox(ctx, op, e); err != nil {
		return err
	}
	op.enter("containers")
	for _, c := range m.index.containersOf(sb.ID) {
		if err := m.RemoveContainer(ctx, string(c.value.Load().ID)); err != nil && !errors.Is(err, pod.ErrNotFound) {
			return err
		}
	}
	return op.step(ctx, "remove", func(ctx context.Context) error { return m.removeSandbox(ctx, e) })
}

// removeSandbox takes away what a stopped, empty sandbox still has. Recovery uses
// it for sandboxes that were never finished.
func (m *Manager) removeSandbox(ctx context.Context, e *sandboxEntry) error {
	before := e.value.Load().State
	sb := *e.value.Load()
	if before != pod.Removing {
		var err error
		if sb, err = m.putSandbox(e, pod.Removing, nil); err != nil {
			return err
		}
	}
	if err := m.removePodCgroup(ctx, sb); err != nil {
		return err
	}
	if err := m.forgetSandbox(e, before != pod.Creating); err != nil {
		return err
	}
	if m.plugins != nil && before != pod.Creating {
		warn(ctx, "tell plugins of a removed pod", m.plugins.RemoveSandbox(ctx, sb), "sandbox", sb.ID)
	}
	return nil
}

// gone says whether the entry is no longer the index's.
func (m *Manager) gone(e *sandboxEntry) bool {
	now, err := m.index.sandbox(string(e.value.Load().ID))
	return err != nil || now != e
}

func subject(sb pod.Sandbox) string {
	meta := sb.Config.GetMetadata()
	return meta.GetNamespace() + "/" + meta.GetName()
}

func namespaceOptions(sb pod.Sandbox) *runtime.NamespaceOption {
	return sb.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
}

func ownNetwork(sb pod.Sandbox) bool {
	return namespaceOptions(sb).GetNetwork() == runtime.NamespaceMode_POD
}
func ownIPC(sb pod.Sandbox) bool { return namespaceOptions(sb).GetIpc() == runtime.NamespaceMode_POD }
func sharesPID(sb pod.Sandbox) bool {
	return namespaceOptions(sb).GetPid() == runtime.NamespaceMode_POD
}
