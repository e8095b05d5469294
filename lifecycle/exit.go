package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// watch has the daemon follow the container to its end. It is called once per connection
// to a monitor, and no goroutine waits while the monitor has nothing to say.
func (m *Manager) watch(e *containerEntry, monitor *client.Monitor) {
	e.monitor.Store(monitor)
	entrusted := false
	monitor.Follow(func() (more bool) {
		m.attend(func(ctx context.Context) {
			if !entrusted {
				m.entrust(ctx, e.value.Load().ID, monitor)
				entrusted = true
			}
			more = m.hear(ctx, e, monitor)
		})
		return more // not once the daemon is ending: the next one's Recover finds the container
	})
}

// hear takes what the monitor has said, and says whether there will be more.
func (m *Manager) hear(ctx context.Context, e *containerEntry, monitor *client.Monitor) (more bool) {
	for {
		select {
		case <-monitor.Notified():
			m.takeDenials(telemetry.WithTraceparent(ctx, e.value.Load().Traceparent), e)
			continue
		case <-monitor.Stalled():
			m.takeStalls(ctx, e, monitor)
			continue
		case <-monitor.Exited():
			m.revoke(ctx, e.value.Load().ID)
			m.handleExit(ctx, e)
		case <-monitor.Lost():
			m.adopt(ctx, e, monitor)
		default:
			return true
		}
		return false
	}
}

// handleExit takes the monitor's exit record into the container's.
func (m *Manager) handleExit(ctx context.Context, e *containerEntry) {
	c := *e.value.Load()
	record, err := client.ReadExit(m.store.ContainerDir(c.ID))
	if err != nil {
		warn(ctx, "read exit record", err, "container", c.ID)
		m.handleLost(ctx, e)
		return
	}
	m.stallsAtEnd(ctx, e, record)
	m.finish(ctx, e, exitFromRecord(record), time.Unix(0, record.ExitedAt))
}

// handleLost ends a container whose monitor died without an exit record. Its exit
// status is not known and is not invented.
func (m *Manager) handleLost(ctx context.Context, e *containerEntry) {
	c := *e.value.Load()
	if record, err := client.ReadExit(m.store.ContainerDir(c.ID)); err == nil {
		m.stallsAtEnd(ctx, e, record)
		m.finish(ctx, e, exitFromRecord(record), time.Unix(0, record.ExitedAt))
		return
	} else if !errors.Is(err, os.ErrNotExist) {
		warn(ctx, "read exit record", err, "container", c.ID)
	}
	m.finish(ctx, e, pod.Exit{
		Code: -1, Source: "unknown", Reason: "MonitorLost",
		Message: "the container's monitor ended without recording an exit; the exit status is not known",
	}, time.Now())
}

// finish moves the container to Exited and ends what is left of its processes.
func (m *Manager) finish(ctx context.Context, e *containerEntry, exit pod.Exit, at time.Time) {
	if err := e.lock.acquire(ctx, e.value.Load().ID); err != nil {
		return // the daemon is ending; Recover reads the exit record again
	}
	defer e.lock.release()
	c := *e.value.Load()
	if c.State == pod.Exited || c.State == pod.Removing || c.State == pod.Creating {
		return
	}
	exit = m.judge(ctx, e, exit, at)
	if c.Cgroup != "" {
		// A container that shares its pid namespace may leave processes behind.
		warn(ctx, "end a container's remaining processes", ignoreGone(m.cgroups.Kill(c.Cgroup)), "container", c.ID)
	}
	_, err := m.putContainer(e, pod.Exited, func(next *pod.Container) {
		next.Exit, next.FinishedAt = &exit, at
		if next.StartedAt.IsZero() && c.State != pod.Created {
			next.StartedAt = at
		}
	})
	warn(ctx, "record a container's exit", err, "container", c.ID)
	if err == nil {
		m.untrack(ctx, c)
	}
	m.tellStopped(ctx, e)
}

func exitFromRecord(r wire.Exit) pod.Exit {
	exit := pod.Exit{
		Code: r.Code(), Signal: r.Signal(), CoreDumped: r.CoreDumped(), Source: "monitor", Reason: "Error",
		UserTime: time.Duration(r.UserTime), SystemTime: time.Duration(r.SystemTime),
		MaxRSS: r.MaxRSS, LogBytes: r.LogBytes, LogLines: r.LogLines, LogDropped: r.LogDropped, LogLimited: r.LogLimited,
		LogErrno: int(r.LogErrno),
	}
	if r.Source != "" {
		exit.Source = r.Source
	}
	switch {
	case r.Source == wire.SourceUnknown:
		exit.Code, exit.Signal, exit.CoreDumped, exit.Reason = -1, 0, false, "MonitorLost"
		exit.Message = "the container's monitor was killed, and the kernel no longer knew how the container ended"
	case r.StartError != "":
		exit.Code, exit.Reason, exit.Message = 128, "StartError", r.StartError
	case exit.Code == 0:
		exit.Reason = "Completed"
	}
	return exit
}

// RemoveContainer kills the container if need be and removes every trace of it
// but its log. Unknown id: ErrNotFound.
func (m *Manager) RemoveContainer(ctx context.Context, id string) (err error) {
	e, sb, err := m.containerAndSandbox(id)
	if err != nil {
		return err
	}
	c := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "remove_container", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	if c.State != pod.Removing {
		if err := m.stopContainer(ctx, op, e, 0); err != nil {
			return err
		}
	}
	op.enter("lock")
	if err := e.lock.acquire(ctx, c.ID); err != nil {
		return err
	}
	defer e.lock.release()
	if now, err := m.index.container(string(c.ID)); err != nil || now != e {
		return nil // another request removed it while this one waited
	}
	return m.removeContainer(ctx, op, e)
}

// removeContainer takes away all that a container without processes still has. It
// can be repeated after a failure at any step; recovery uses it for containers
// that were never finished.
func (m *Manager) removeContainer(ctx context.Context, op *operation, e *containerEntry) error {
	c := *e.value.Load()
	told := c.State != pod.Creating
	if c.State != pod.Removing {
		if err := op.step(ctx, "record", func(context.Context) error {
			_, err := m.putContainer(e, pod.Removing, nil)
			return err
		}); err != nil {
			return err
		}
	}
	if err := m.clearContainer(ctx, op, c, e.monitor.Load()); err != nil {
		return err
	}
	e.monitor.Store(nil)
	return op.step(ctx, "forget", func(ctx context.Context) error {
		if err := m.forgetContainer(e, told); err != nil || !told {
			return err
		}
		warn(ctx, "tell plugins of a removed container", m.tell(ctx, e, Plugins.RemoveContainer), "container", c.ID)
		return nil
	})
}

// clearContainer removes what lies outside the record: monitor, runtime state,
// cgroup, root file system.
func (m *Manager) clearContainer(ctx context.Context, op *operation, c pod.Container, monitor *client.Monitor) error {
	op.enter("monitor.shutdown")
	m.revoke(ctx, c.ID)
	if monitor != nil {
		warn(ctx, "end a removed container's monitor", ignoreGone(monitor.Destroy(ctx)), "container", c.ID)
		monitor.Close()
	} else if pid := m.monitors()[c.ID]; pid != 0 { // it lives and could not be reached
		if err := proc.End(ctx, pid, killBound); err != nil {
			return fmt.Errorf("end monitor of %s: %w", c.ID.Short(), err)
		}
	}
	if err := op.step(ctx, "runtime", func(ctx context.Context) error { return m.deleteRuntimeState(ctx, c) }); err != nil {
		return err
	}
	op.enter("volumes")
	if err := m.removeVolumes(ctx, c); err != nil {
		return err
	}
	op.enter("rootfs")
	return m.images.RemoveRootfs(ctx, string(c.ID))
}

// deleteRuntimeState removes the runtime's own state and the cgroup.
func (m *Manager) deleteRuntimeState(ctx context.Context, c pod.Container) error {
	m.untrack(ctx, c)
	handler, err := m.config.handler(c.Handler)
	if err != nil {
		warn(ctx, "runtime handler is no longer configured; removing what is known", err, "container", c.ID)
	}
	if handler.external() {
		if err := m.deleteExternal(ctx, c, handler); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(m.runtimeRoot() + "/" + string(c.ID)); err != nil {
		return fmt.Errorf("remove runtime state of %s: %w", c.ID.Short(), err)
	}
	if c.Cgroup == "" {
		return nil
	}
	return ignoreGone(m.cgroups.Remove(c.Cgroup))
}
