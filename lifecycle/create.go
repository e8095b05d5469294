package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// CreateContainer makes a container up to the point where its init waits to
// execute the user's program. The same request again returns the container that
// the first one made; a different one for the same attempt is ErrExists.
func (m *Manager) CreateContainer(ctx context.Context, sandbox string, config *runtime.ContainerConfig) (pod.ID, error) {
	return m.makeContainer(ctx, sandbox, config, nil)
}

// makeContainer is CreateContainer, or with restore the making of a container whose
// processes are those of a checkpoint.
func (m *Manager) makeContainer(ctx context.Context, sandbox string, config *runtime.ContainerConfig, restore *restoring) (pod.ID, error) {
	owner, err := m.index.sandbox(sandbox)
	if err != nil {
		return "", err
	}
	sb := *owner.value.Load()
	if sb.State != pod.Ready {
		return "", fmt.Errorf("create container in sandbox %s: %w: it is %s, not %s", sb.ID.Short(), pod.ErrState, sb.State, pod.Ready)
	}
	c := pod.Container{
		ID: pod.NewID(), SandboxID: sb.ID, State: pod.Creating, Config: pod.ContainerConfig{ContainerConfig: config},
		Handler: sb.Handler, CreatedAt: time.Now(), Traceparent: telemetry.Traceparent(ctx),
	}
	x := m.index
	x.mu.Lock()
	if f := x.containerFlights[c.Key()]; f != nil {
		x.mu.Unlock()
		if !proto.Equal(f.config, config) {
			return "", fmt.Errorf("%s: %w: it is being made with another configuration", c.Key(), pod.ErrExists)
		}
		return f.wait(ctx)
	}
	var leftover *containerEntry // of an attempt that could not be undone
	if id, exists := x.containerKeys[c.Key()]; exists {
		present := x.containers[id]
		old := present.value.Load()
		if old.State != pod.Creating {
			x.mu.Unlock()
			if proto.Equal(old.Config.ContainerConfig, config) {
				return id, nil
			}
			return "", fmt.Errorf("%s: %w as %s with another configuration", c.Key(), pod.ErrExists, id.Short())
		}
		leftover = present
	}
	x.containerFlights[c.Key()] = &flight{config: config, done: make(chan struct{})}
	x.mu.Unlock()

	return fly(ctx, m, x.containerFlights, c.Key(), c.ID, func(ctx context.Context) error {
		if leftover != nil {
			if err := m.clearInterrupted(ctx, leftover, m.monitors()); err != nil {
				return err
			}
		}
		return m.createContainer(ctx, owner, c, restore)
	})
}

// previousAttempt is the last attempt before c of the same container, empty without one.
func previousAttempt(siblings []pod.Container, c pod.Container) (previous pod.ID) {
	key, last := c.Key(), int64(-1)
	for _, s := range siblings {
		if k := s.Key(); k.Name == key.Name && k.Attempt < key.Attempt && int64(k.Attempt) > last {
			previous, last = s.ID, int64(k.Attempt)
		}
	}
	return previous
}

func (m *Manager) createContainer(ctx context.Context, owner *sandboxEntry, c pod.Container, restore *restoring) (err error) {
	sb := *owner.value.Load()
	ctx, op := m.ops.begin(ctx, "create_container", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	op.enter("lock")
	if err := owner.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer owner.lock.release()
	if sb = *owner.value.Load(); sb.State != pod.Ready {
		return fmt.Errorf("create container in sandbox %s: %w: it is %s, not %s", sb.ID.Short(), pod.ErrState, sb.State, pod.Ready)
	}
	defer m.warm(ctx, c, restore != nil)()

	var undo undo
	defer func() {
		if err != nil {
			op.enter("undo")
			err = errors.Join(err, undo.run(ctx))
		}
	}()

	op.enter("image")
	img, err := m.images.Status(ctx, c.Config.GetImage().GetImage())
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	if err := labelContainer(&sb, c.Config.ContainerConfig); err != nil {
		return err
	}
	c.Previous = previousAttempt(m.ContainersOf(sb.ID), c)
	plan := &plan{manager: m, sandbox: sb, container: &c, image: img, restore: restore}
	if err := op.step(ctx, "resolve", plan.resolve); err != nil {
		return err
	}

	var e *containerEntry
	if err := op.step(ctx, "record", func(context.Context) error {
		if err := m.store.PutContainer(c); err != nil {
			return err
		}
		e = m.index.addContainer(c)
		return nil
	}); err != nil {
		return err
	}
	undo.add("record", func(context.Context) error { return m.forgetContainer(e, false) })

	// The monitor and the launcher begin now, beside what they will need.
	spawn := plan.spawn(telemetry.Traceparent(ctx))
	if spawn.Cgroup, err = m.monitorCgroup(sb); err != nil {
		return err
	}
	early, err := client.StartEarly(ctx, spawn, m.spares.take(ctx, spawn))
	m.spares.soon(afterCreation)
	if err != nil {
		return err
	}
	undo.add("early monitor", func(context.Context) error { return early.Cancel() })

	op.enter("rootfs")
	undo.add("rootfs", func(ctx context.Context) error { return m.images.RemoveRootfs(ctx, string(c.ID)) })
	rootfs, err := m.images.CreateRootfs(ctx, rootfsRequest(sb, c))
	if err != nil {
		return err
	}
	c.Rootfs = rootfs.Path
	if restore != nil {
		if err := op.step(ctx, "unpack", plan.unpackSnapshot); err != nil {
			return err
		}
	}
	if hasVolumes(c) {
		undo.add("volumes", func(ctx context.Context) error { return m.removeVolumes(ctx, c) })
		if err := op.step(ctx, "volumes", plan.mountVolumes); err != nil {
			return err
		}
	}

	if sb.MountLabel != "" {
		if err := op.step(ctx, "relabel", plan.relabel); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "spec", plan.describe); err != nil {
		return err
	}
	if len(plan.devices) > 0 {
		if err := op.step(ctx, "cdi", plan.injectDevices); err != nil {
			return err
		}
	}
	if m.plugins != nil {
		undo.add("plugins", func(ctx context.Context) error {
			warn(ctx, "tell plugins of a container that was not made", m.plugins.RemoveContainer(ctx, sb, c), "container", c.ID)
			return nil
		})
		if err := op.step(ctx, "plugins", plan.askPlugins); err != nil {
			return err
		}
	}
	undo.add("runtime", func(ctx context.Context) error { return m.deleteRuntimeState(ctx, c) })
	if err := op.step(ctx, "bundle", plan.write); err != nil {
		return err
	}

	undo.add("observation", func(ctx context.Context) error {
		m.untrack(ctx, c)
		return nil
	})
	var making *making
	if err := op.step(ctx, "observe", func(ctx context.Context) error {
		m.trackEarly(ctx, &c, plan.handler)
		making = m.watchMaking(ctx, c)
		return nil
	}); err != nil {
		return err
	}
	defer func() { making.end(ctx) }()
	op.enter("monitor.create")
	monitor, created, err := early.Proceed()
	op.span.Set(m.spareAttributes(early.UsedSpare())...)
	if err != nil {
		return fmt.Errorf("create container %s: %w", c.ID.Short(), m.tooSmall(ctx, c, making, launchError(err)))
	}
	c.Way = wayOf(plan.handler, created.Way)
	m.unmoved.note(kindOf(c), c.Way)
	op.span.Set(wayAttributes(c.Way, created.Way)...)
	undo.add("monitor", func(ctx context.Context) error {
		defer monitor.Close()
		return ignoreGone(monitor.Destroy(ctx))
	})

	if restore != nil {
		if err := op.step(ctx, "verify", plan.verifyRestored); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "created", func(context.Context) error {
		pid := m.initPID(plan.handler, c.ID, created.PID)
		start, err := proc.StartTime(pid)
		if err != nil {
			return fmt.Errorf("create container %s: %w", c.ID.Short(), m.tooSmall(ctx, c, making, fmt.Errorf("init %d: %w", pid, err)))
		}
		c.Init = pod.Process{PID: pid, StartTime: start}
		m.trackInit(ctx, &c)
		if making.killed(ctx, pid) { // before its own cgroup was watched
			return fmt.Errorf("create container %s: %w", c.ID.Short(), m.tooSmall(ctx, c, making, fmt.Errorf("init %d was killed", pid)))
		}
		if _, err := m.putContainer(e, pod.Created, func(next *pod.Container) { *next = c; next.State = pod.Created }); err != nil {
			return err
		}
		m.watch(e, monitor)
		return nil
	}); err != nil {
		return err
	}
	op.enter("plugins")
	warn(ctx, "tell plugins of a new container", m.tell(ctx, e, Plugins.PostCreateContainer), "container", c.ID)
	return nil
}
