package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// MonitorUpgrade is what became of one container's monitor.
type MonitorUpgrade struct {
	Container pod.Container
	// Build is the program that runs now; Err why it is still the old one.
	Build string
	Err   error
}

const (
	// upgradesAtOnce bounds how many monitors are replaced at a time: each starts two programs.
	upgradesAtOnce = 4
	// upgradeBound is how long one may take: the monitor's own bounds add up to less.
	upgradeBound = 30 * time.Second
)

// UpgradeMonitors has the monitors of a container, of a pod's containers or, with an
// empty id, of all containers replace their program by the one that new monitors are
// started with, in place: nothing of the containers changes. done is called once per
// monitor, one call at a time. ErrNotFound when id names nothing, ErrState when the
// container has no monitor.
func (m *Manager) UpgradeMonitors(ctx context.Context, id string, done func(MonitorUpgrade)) error {
	entries, err := m.monitored(id)
	if err != nil {
		return fmt.Errorf("upgrade monitors: %w", err)
	}
	var mu sync.Mutex // guards the calls of done
	var upgrades sync.WaitGroup
	slots := make(chan struct{}, upgradesAtOnce)
	for _, e := range entries {
		slots <- struct{}{}
		upgrades.Go(func() {
			defer func() { <-slots }()
			result := MonitorUpgrade{Container: *e.value.Load()}
			if result.Err = ctx.Err(); result.Err == nil {
				result.Build, result.Err = m.upgradeMonitor(ctx, e)
			}
			mu.Lock()
			defer mu.Unlock()
			done(result)
		})
	}
	upgrades.Wait()
	return nil
}

func (m *Manager) upgradeMonitor(ctx context.Context, e *containerEntry) (build string, err error) {
	c := *e.value.Load()
	subjectName := c.Config.GetMetadata().GetName()
	if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil {
		subjectName = subject(*owner.value.Load()) + "/" + subjectName
	}
	ctx, op := m.ops.begin(ctx, "upgrade_monitor", subjectName, c.ID, nil)
	defer op.end(&err)
	monitor := e.monitor.Load()
	if monitor == nil {
		return "", fmt.Errorf("upgrade monitor of %s: %w: it is gone", c.ID.Short(), pod.ErrUnavailable)
	}
	op.enter("replace")
	ctx, cancel := context.WithTimeout(client.WithTraceparent(ctx, telemetry.Traceparent(ctx)), upgradeBound)
	defer cancel()
	if err := monitor.Upgrade(ctx, m.config.MonitorPath); err != nil {
		return "", launchError(err)
	}
	return monitor.Build(), nil
}

// monitored are the containers that id means and that have a monitor.
func (m *Manager) monitored(id string) ([]*containerEntry, error) {
	entries := m.index.allContainers()
	if id != "" {
		e, err := m.index.container(id)
		entries = []*containerEntry{e}
		if errors.Is(err, pod.ErrNotFound) {
			var sb *sandboxEntry
			if sb, err = m.index.sandbox(id); err == nil {
				entries = m.index.containersOf(sb.value.Load().ID)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	var found []*containerEntry
	for _, e := range entries {
		if e.monitor.Load() != nil {
			found = append(found, e)
		}
	}
	if id != "" && len(found) == 0 {
		return nil, fmt.Errorf("%w: %s has no monitor", pod.ErrState, id)
	}
	return found, nil
}
