package lifecycle

import (
	"context"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// adoptBound is how long a new monitor may take to be in place; it mostly takes
// milliseconds, during which the container's output waits in its pipes.
const adoptBound = 10 * time.Second

// adopt puts a new monitor in the place of one that died: lost, or, after a restart of
// the daemon, nil. The container goes on, and its streams with it as long as this
// daemon or the trustee held them. A container that cannot be adopted is ended as MonitorLost.
func (m *Manager) adopt(ctx context.Context, e *containerEntry, lost *client.Monitor) {
	monitor, err := m.tryAdopt(ctx, e, lost)
	if lost != nil {
		lost.Close()
	}
	if err != nil || monitor == nil {
		warn(ctx, "a killed monitor could not be replaced", err, "container", e.value.Load().ID)
		m.handleLost(ctx, e)
		return
	}
	m.resume(ctx, e, monitor)
}

// tryAdopt returns no monitor for a container that needs none any more.
func (m *Manager) tryAdopt(ctx context.Context, e *containerEntry, lost *client.Monitor) (_ *client.Monitor, err error) {
	c := *e.value.Load()
	switch c.State {
	case pod.Created, pod.Starting, pod.Running, pod.Stopping:
	default:
		return nil, nil
	}
	dir := m.store.ContainerDir(c.ID)
	if _, err := client.ReadExit(dir); err == nil {
		return nil, nil // it had said everything
	}
	ctx, op := m.ops.begin(telemetry.WithTraceparent(ctx, c.Traceparent), "adopt_container", string(c.ID), c.ID, nil)
	defer op.end(&err)
	ctx, cancel := context.WithTimeout(ctx, adoptBound)
	defer cancel()
	cgroup := ""
	if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil {
		if cgroup, err = m.monitorCgroup(*owner.value.Load()); err != nil { // better a monitor elsewhere than none
			warn(ctx, "place a new monitor", err, "container", c.ID)
		}
	}
	if lost == nil {
		return m.trust.get().Adopt(ctx, string(c.ID), dir, m.config.MonitorPath, cgroup)
	}
	return client.Adopt(ctx, dir, m.config.MonitorPath, cgroup, lost)
}
