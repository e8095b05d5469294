package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// killBound is how long a process may take to end after SIGKILL. One in
// uninterruptible sleep takes longer, and the caller is told so.
const killBound = 30 * time.Second

const sigKill = unix.SIGKILL

// StopContainer sends the stop signal, waits for timeout, kills, and returns when
// PID 1 is gone. With timeout 0 it kills at once. Several callers may stop the same
// container; the shortest timeout wins. Unknown id: ErrNotFound; a container that
// has ended: nil.
func (m *Manager) StopContainer(ctx context.Context, id string, timeout time.Duration) (err error) {
	e, sb, err := m.containerAndSandbox(id)
	if err != nil {
		return err
	}
	c := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "stop_container", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	return m.stopContainer(ctx, op, e, timeout)
}

func (m *Manager) stopContainer(ctx context.Context, op *operation, e *containerEntry, timeout time.Duration) error {
	running, err := m.beginStop(ctx, op, e, timeout)
	if err != nil || !running {
		return err
	}
	if err := m.end(ctx, op, e, timeout); err != nil {
		return err
	}
	return m.awaitTold(ctx, e)
}

// end waits for the container's end, and brings it about when the grace period is over.
func (m *Manager) end(ctx context.Context, op *operation, e *containerEntry, timeout time.Duration) error {
	if timeout > 0 {
		op.enter("grace")
		if ended, err := waitExit(ctx, e, timeout); ended || err != nil {
			return err
		}
	}
	op.enter("kill")
	m.graceOver(ctx, e, timeout)
	if err := m.kill(ctx, e); err != nil {
		return err
	}
	if ended, err := waitExit(ctx, e, killBound); ended || err != nil {
		return err
	}
	c := e.value.Load()
	return fmt.Errorf("stop container %s: %w: pid %d is still there %v after SIGKILL (%s)",
		c.ID.Short(), pod.ErrDeadline, c.Init.PID, killBound, proc.State(c.Init.PID))
}

// beginStop moves the container to Stopping and, with a grace period, sends its stop
// signal: once, and once more after a restart of the daemon, which may have died before
// it was sent. Without one it sends none, since a handler that ends the process first
// would decide how it ended. It waits for a start in progress, but no longer: waiting
// for the end happens without the lock, so that a second stop can be shorter.
func (m *Manager) beginStop(ctx context.Context, op *operation, e *containerEntry, grace time.Duration) (running bool, err error) {
	op.enter("lock")
	c := e.value.Load()
	if err := e.lock.acquire(ctx, c.ID); err != nil {
		return false, err
	}
	defer e.lock.release()
	c = e.value.Load()
	switch c.State {
	case pod.Exited, pod.Removing:
		return false, nil
	case pod.Stopping:
		if e.signalled {
			return true, nil
		}
	default:
		if _, err := m.putContainer(e, pod.Stopping, stopRequested(ctx, grace)); err != nil {
			return false, err
		}
	}
	if grace <= 0 {
		return true, nil // the kill follows
	}
	op.enter("signal")
	e.signalled = true
	if c.State == pod.Created || c.StartedAt.IsZero() {
		return true, m.kill(ctx, e) // its init still waits to become the user's program and knows no signals
	}
	return true, m.signal(ctx, e)
}

func (m *Manager) signal(ctx context.Context, e *containerEntry) error {
	c := e.value.Load()
	_, number, err := spec.ParseSignal(c.StopSignal)
	if err != nil {
		return err // CreateContainer has checked it
	}
	monitor := e.monitor.Load()
	if monitor == nil {
		return nil // handleLost is ending it
	}
	return ignoreGone(monitor.Signal(ctx, unix.Signal(number), false))
}

// kill ends every process of the container. Without a monitor it goes by the
// cgroup, which names the container's processes and no others.
func (m *Manager) kill(ctx context.Context, e *containerEntry) error {
	c := e.value.Load()
	if monitor := e.monitor.Load(); monitor != nil {
		err := ignoreGone(monitor.Signal(ctx, sigKill, true))
		if err == nil {
			return nil
		}
		warn(ctx, "kill through the monitor; going by the cgroup", err, "container", c.ID)
	}
	if c.Cgroup == "" {
		return nil
	}
	return ignoreGone(m.cgroups.Kill(c.Cgroup))
}

// stopContainers kills every container of a pod, all at once, and waits for them.
func (m *Manager) stopContainers(ctx context.Context, sandbox pod.ID) error {
	var wg sync.WaitGroup
	entries := m.index.containersOf(sandbox)
	errs := make([]error, len(entries))
	for i, e := range entries {
		if e.value.Load().State == pod.Exited {
			errs[i] = m.awaitTold(ctx, e)
			continue
		}
		wg.Go(func() {
			errs[i] = m.StopContainer(ctx, string(e.value.Load().ID), 0)
			if errors.Is(errs[i], pod.ErrNotFound) {
				errs[i] = nil
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// waitExit waits until the container is Exited, at most for bound.
func waitExit(ctx context.Context, e *containerEntry, bound time.Duration) (ended bool, err error) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-e.exited:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("stop container %s: %w: %w", e.value.Load().ID.Short(), pod.ErrDeadline, context.Cause(ctx))
	}
}

// ignoreGone treats a process, container or cgroup that is no longer there as ended.
func ignoreGone(err error) error {
	var failed *launch.Error
	if errors.As(err, &failed) && failed.Kind == launch.KindGone {
		return nil
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrNotExist) || errors.Is(err, pod.ErrNotFound) {
		return nil
	}
	return err
}
