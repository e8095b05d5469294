package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// StartContainer executes the user's program of a Created container and returns
// when the kernel has confirmed the execve. When that fails the container is
// Exited with reason StartError. Starting a Running container is ErrState.
func (m *Manager) StartContainer(ctx context.Context, id string) (err error) {
	arrived := time.Now()
	e, sb, err := m.containerAndSandbox(id)
	if err != nil {
		return err
	}
	c := *e.value.Load()
	ctx, op := m.ops.beginAt(ctx, arrived, "start_container", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	m.spares.soon(afterCreation)
	defer m.spares.soon(afterStart)
	op.enter("lock")
	if err := e.lock.acquire(ctx, c.ID); err != nil {
		return err
	}
	defer e.lock.release()
	switch now := e.value.Load(); now.State {
	case pod.Created:
	case pod.Starting: // an attempt that was not confirmed or not recorded: find out what became of it
		ctx, cancel := m.detached(ctx, m.config.createTimeout())
		defer cancel()
		return m.finishStart(ctx, op, e)
	default:
		err := fmt.Errorf("start container %s: %w: it is %s, not %s", c.ID.Short(), pod.ErrState, now.State, pod.Created)
		if now.Exit != nil && now.StartedAt.IsZero() && now.Exit.Message != "" { // why there is nothing to start any more
			err = fmt.Errorf("%w: %s", err, now.Exit.Message)
		}
		return err
	}
	op.enter("plugins")
	if err := m.tell(ctx, e, Plugins.StartContainer); err != nil {
		return fmt.Errorf("start container %s: %w", c.ID.Short(), err)
	}
	traceparent := telemetry.Traceparent(ctx)
	if err := op.step(ctx, "record", func(context.Context) error {
		_, err := m.putContainer(e, pod.Starting, func(next *pod.Container) { next.StartTraceparent = traceparent })
		return err
	}); err != nil {
		return err
	}
	// From here on the request's end must not leave the state open: the program
	// is started or it is not.
	ctx, cancel := m.detached(ctx, m.config.createTimeout())
	defer cancel()
	return m.finishStart(ctx, op, e)
}

// finishStart takes a Starting container to Running or to Exited. Recovery calls
// it for a start that the daemon's death interrupted.
func (m *Manager) finishStart(ctx context.Context, op *operation, e *containerEntry) error {
	c := *e.value.Load()
	monitor := e.monitor.Load()
	if monitor == nil {
		return fmt.Errorf("start container %s: %w: its monitor is gone", c.ID.Short(), pod.ErrUnavailable)
	}
	started, traceparent := time.Now(), ""
	if err := op.step(ctx, "execute", func(ctx context.Context) error {
		traceparent = telemetry.Traceparent(ctx)
		return monitor.StartContainer(client.WithTraceparent(ctx, traceparent))
	}); err != nil {
		return m.failStart(ctx, e, err)
	}
	if err := op.step(ctx, "running", func(ctx context.Context) error {
		began := m.began(ctx, c, started, traceparent)
		_, err := m.putContainer(e, pod.Running, func(next *pod.Container) { next.StartedAt, next.Evidence.Start = started, began })
		if err == nil && began != nil {
			m.tellStart(ctx, c, pod.Start{}, *began)
			m.starts.note(c.Evidence.Cgroup) // what came between the look and the door
		}
		return err
	}); err != nil {
		return err
	}
	op.enter("plugins")
	warn(ctx, "tell plugins of a started container", m.tell(ctx, e, Plugins.PostStartContainer), "container", c.ID)
	return nil
}

// failStart ends a container whose program could not be executed.
func (m *Manager) failStart(ctx context.Context, e *containerEntry, cause error) error {
	c := *e.value.Load()
	exit := pod.Exit{Code: 128, Source: "monitor", Reason: "StartError", Message: cause.Error()}
	var failed *launch.Error
	if errors.As(cause, &failed) {
		switch failed.Kind {
		case launch.KindNotFound:
			exit.Code = 127
		case launch.KindNotExecutable:
			exit.Code = 126
		}
	}
	err, said := launchError(cause), exit.Message
	exit = m.judge(ctx, e, exit, time.Now())
	if verdict, judged := strings.CutSuffix(exit.Message, ": "+said); judged {
		err = fmt.Errorf("%w: %s: %w", pod.ErrInvalid, verdict, err)
	}
	if monitor := e.monitor.Load(); monitor != nil {
		warn(ctx, "end a container that did not start", ignoreGone(monitor.Signal(ctx, sigKill, true)), "container", c.ID)
	}
	_, recorded := m.putContainer(e, pod.Exited, func(next *pod.Container) {
		next.Exit, next.FinishedAt = &exit, time.Now()
	})
	m.tellStopped(ctx, e)
	return errors.Join(fmt.Errorf("start container %s: %w", c.ID.Short(), err), recorded)
}

// launchError gives a launcher's or monitor's error its sentinel.
func launchError(err error) error {
	var failed *launch.Error
	if !errors.As(err, &failed) {
		return err
	}
	switch failed.Kind {
	case launch.KindInvalid, launch.KindNotFound, launch.KindNotExecutable:
		return fmt.Errorf("%w: %s", pod.ErrInvalid, failed.Message)
	case launch.KindGone:
		return fmt.Errorf("%w: %s", pod.ErrState, failed.Message)
	default:
		return fmt.Errorf("%s: %s", failed.Step, failed.Message)
	}
}

// containerAndSandbox finds a container that is not being made, with its sandbox.
func (m *Manager) containerAndSandbox(id string) (*containerEntry, pod.Sandbox, error) {
	e, err := m.index.container(id)
	if err != nil {
		return nil, pod.Sandbox{}, err
	}
	c := e.value.Load()
	if c.State == pod.Creating {
		return nil, pod.Sandbox{}, fmt.Errorf("container %q: %w", id, pod.ErrNotFound)
	}
	owner, err := m.index.sandbox(string(c.SandboxID))
	if err != nil {
		return nil, pod.Sandbox{}, err
	}
	return e, *owner.value.Load(), nil
}
