package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Recover makes memory equal to the records and the world equal to both: running
// containers are watched again, exits of the meantime are taken in, what was being
// made is undone, what was being removed is removed, and what no record names is
// taken away. Call it once, before serving.
func (m *Manager) Recover(ctx context.Context) (err error) {
	ctx, span := telemetry.Start(ctx, "lifecycle.recover")
	defer span.End(&err)
	sandboxes, containers, damaged, err := m.store.Load()
	if err != nil {
		return err
	}
	for _, sb := range sandboxes {
		m.index.addSandbox(sb)
	}
	for _, c := range containers {
		m.index.addContainer(c)
	}
	m.replayRecords(time.Now())
	m.takeUpWitness()
	m.keepTrustee(ctx)
	processes := proc.Monitors()
	m.endSpares(ctx, processes)
	monitors := m.monitorsAmong(processes)
	m.reconnect(ctx, monitors)
	m.sweepTrustee(ctx)
	m.sweep(ctx, damaged, monitors)
	m.finishInterrupted(ctx, monitors)
	for _, e := range m.index.allContainers() {
		c := *e.value.Load()
		m.persist(ctx, "end an interrupted checkpoint", c.ID, func(ctx context.Context) error { return m.finishCheckpoint(ctx, c) })
	}
	m.followWitness()
	m.openSpares()
	slog.InfoContext(ctx, "recovered", "sandboxes", len(sandboxes), "containers", len(containers), "damaged", len(damaged))
	return nil
}

// monitors finds this instance's living monitors by container.
func (m *Manager) monitors() map[pod.ID]int { return m.monitorsAmong(proc.Monitors()) }

func (m *Manager) monitorsAmong(processes []proc.Monitor) map[pod.ID]int {
	return proc.Under(processes, filepath.Join(m.config.StateDir, "containers"))
}

// reconnect finds the monitor of every container that had one, all at once,
// because a daemon with hundreds of pods must answer soon.
func (m *Manager) reconnect(ctx context.Context, monitors map[pod.ID]int) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, e := range m.index.allContainers() {
		switch e.value.Load().State {
		case pod.Created, pod.Starting, pod.Running, pod.Stopping:
		case pod.Exited: // its monitor may linger; removal will end it
			if _, live := monitors[e.value.Load().ID]; !live {
				continue
			}
		default:
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			m.reconnectOne(ctx, e, monitors[e.value.Load().ID])
		})
	}
	wg.Wait()
}

// reconnectOne takes up the container's monitor, whose process is pid, 0 for none.
// One that lives and does not answer, because it is stopped or the node is busy,
// keeps its container: it is asked again in the background.
func (m *Manager) reconnectOne(ctx context.Context, e *containerEntry, pid int) {
	c := *e.value.Load()
	monitor, err := m.connect(ctx, c.ID)
	if err == nil {
		m.resume(ctx, e, monitor)
		return
	}
	if _, exitErr := client.ReadExit(m.store.ContainerDir(c.ID)); exitErr == nil && c.State != pod.Exited {
		m.handleExit(ctx, e)
		return
	}
	if c.State == pod.Exited {
		return // removal ends what is left of it
	}
	if pid == 0 {
		warn(ctx, "a container's monitor is gone", err, "container", c.ID)
		m.adopt(ctx, e, nil)
		return
	}
	warn(ctx, "a container's monitor does not answer", err, "container", c.ID, "pid", pid)
	m.background(func(ctx context.Context) {
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if monitor, err := m.connect(ctx, c.ID); err == nil {
				m.resume(ctx, e, monitor)
				return
			}
			if m.monitors()[c.ID] != pid {
				m.adopt(ctx, e, nil)
				return
			}
		}
	})
}

// connectBound is how long a monitor may take to answer a new daemon.
const connectBound = time.Second

func (m *Manager) connect(ctx context.Context, id pod.ID) (*client.Monitor, error) {
	ctx, cancel := context.WithTimeout(ctx, connectBound)
	defer cancel()
	return client.Connect(ctx, m.store.ContainerDir(id))
}

// resume goes on with a container whose monitor answers.
func (m *Manager) resume(ctx context.Context, e *containerEntry, monitor *client.Monitor) {
	c := *e.value.Load()
	if c.State == pod.Exited {
		e.monitor.Store(monitor)
		return
	}
	m.watch(e, monitor)
	if c.State == pod.Starting {
		m.background(func(ctx context.Context) { m.resumeStart(ctx, e) })
	}
}

// resumeStart completes a start that the daemon's death interrupted. The monitor
// answers a second start request with the outcome of the first.
func (m *Manager) resumeStart(ctx context.Context, e *containerEntry) {
	c := *e.value.Load()
	var err error
	ctx, op := m.ops.begin(telemetry.WithTraceparent(ctx, c.Traceparent), "resume_start", string(c.ID), c.ID, nil)
	defer op.end(&err)
	if err = e.lock.acquire(ctx, c.ID); err != nil {
		return
	}
	defer e.lock.release()
	if e.value.Load().State == pod.Starting {
		err = m.finishStart(ctx, op, e)
		warn(ctx, "resume an interrupted start", err, "container", c.ID)
	}
}

// finishInterrupted undoes what was being made and completes what was being
// removed or stopped. What fails is told and tried again, ever more seldom, until it
// succeeds or the daemon ends: nobody else will, because such objects are not listed.
func (m *Manager) finishInterrupted(ctx context.Context, monitors map[pod.ID]int) {
	for _, e := range m.index.allContainers() {
		if s := e.value.Load().State; s == pod.Creating || s == pod.Removing {
			m.persist(ctx, "remove a container that was never finished", e.value.Load().ID, func(ctx context.Context) error {
				return m.clearInterrupted(ctx, e, monitors)
			})
		}
	}
	for _, e := range m.index.allSandboxes() {
		id := e.value.Load().ID
		switch e.value.Load().State {
		case pod.Creating, pod.Removing:
			m.persist(ctx, "remove a sandbox that was never finished", id, func(ctx context.Context) error { return m.clearSandbox(ctx, e) })
		case pod.Stopping:
			m.background(func(ctx context.Context) {
				m.persist(ctx, "finish stopping a sandbox", id, func(ctx context.Context) error { return m.StopSandbox(ctx, string(id)) })
			})
		case pod.Ready:
			m.checkSandbox(ctx, e)
		}
	}
}

// Bounds of the pauses between attempts of persist.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)

// persist tries once now and, after a failure, again in the background.
func (m *Manager) persist(ctx context.Context, what string, id pod.ID, do func(context.Context) error) {
	err := do(ctx)
	if err == nil || errors.Is(err, pod.ErrNotFound) {
		return
	}
	warn(ctx, what, err, "id", id)
	m.background(func(ctx context.Context) {
		for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if err := do(ctx); err == nil || errors.Is(err, pod.ErrNotFound) {
				return
			} else if pause == lastRetry {
				warn(ctx, what, err, "id", id)
			}
		}
	})
}

// clearInterrupted removes a container in state Creating or Removing. Its monitor,
// if any, serves nobody.
func (m *Manager) clearInterrupted(ctx context.Context, e *containerEntry, monitors map[pod.ID]int) (err error) {
	c := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "clear_container", string(c.ID), c.ID, nil)
	defer op.end(&err)
	if err := e.lock.acquire(ctx, c.ID); err != nil {
		return err
	}
	defer e.lock.release()
	if now, err := m.index.container(string(c.ID)); err != nil || now != e {
		return nil // it was cleared meanwhile
	}
	if pid := monitors[c.ID]; pid != 0 {
		if err := proc.End(ctx, pid, killBound); err != nil {
			return fmt.Errorf("end monitor of %s: %w", c.ID.Short(), err)
		}
	}
	if c.Cgroup != "" {
		if err := ignoreGone(m.cgroups.Kill(c.Cgroup)); err != nil {
			return err
		}
	}
	return m.removeContainer(ctx, op, e)
}

// clearSandbox removes a sandbox in state Creating or Removing with all that
// belongs to it.
func (m *Manager) clearSandbox(ctx context.Context, e *sandboxEntry) (err error) {
	sb := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "clear_sandbox", subject(sb), sb.ID, telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	if err := e.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer e.lock.release()
	if m.gone(e) {
		return nil // it was cleared meanwhile
	}
	if err := m.stopSandboxInit(ctx, sb); err != nil {
		return err
	}
	if err := m.disconnect(ctx, op, sb); err != nil {
		return err
	}
	if err := removeSandboxFiles(m.store.SandboxDir(sb.ID)); err != nil {
		return err
	}
	return m.removeSandbox(ctx, e)
}

// checkSandbox makes a sandbox NotReady whose namespaces did not survive.
func (m *Manager) checkSandbox(ctx context.Context, e *sandboxEntry) {
	sb := *e.value.Load()
	if sb.Namespaces.Net == "" {
		return
	}
	if err := checkPinned(sb.Namespaces.Net); err != nil {
		warn(ctx, "sandbox lost its network namespace", err, "sandbox", sb.ID)
		_, err := m.putSandbox(e, pod.Stopping, nil)
		warn(ctx, "record a lost sandbox", err, "sandbox", sb.ID)
		m.background(func(ctx context.Context) {
			warn(ctx, "stop a lost sandbox", m.StopSandbox(ctx, string(sb.ID)), "sandbox", sb.ID)
		})
	}
}
