package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// ContainerStats reads one container's usage. A container that goes away meanwhile is
// ErrNotFound.
func (m *Manager) ContainerStats(ctx context.Context, id string) (Stats, error) {
	c, err := m.Container(id)
	if err != nil {
		return Stats{}, err
	}
	return m.statsOf(ctx, c, cgroup.Usage)
}

func (m *Manager) statsOf(ctx context.Context, c pod.Container, extent cgroup.Extent) (Stats, error) {
	stats := Stats{Container: c, At: time.Now(), RootfsPath: m.images.Root()}
	var err error
	if extent == cgroup.Everything {
		stats.FileSystem = m.fileSystem.at(stats.RootfsPath, stats.At)
	}
	if c.State == pod.Running || c.State == pod.Stopping {
		if stats.Cgroup, err = m.cgroups.Read(c.Cgroup, extent); err != nil {
			return Stats{}, fmt.Errorf("read figures of container %s: %w", c.ID.Short(), err)
		}
		if extent == cgroup.Everything {
			stats.OpenFiles = openFiles(c)
		}
	}
	stats.RootfsBytes, stats.RootfsInodes, err = m.images.RootfsUsage(ctx, string(c.ID))
	if err != nil {
		return Stats{}, fmt.Errorf("read disk use of container %s: %w", c.ID.Short(), err)
	}
	return stats, nil
}

// SandboxStats reads a pod's usage and its tasks, and the usage of its running
// containers. One container that cannot be read is left out; the pod is not.
func (m *Manager) SandboxStats(ctx context.Context, id string) (SandboxStats, error) {
	return m.sandboxStats(ctx, id, cgroup.UsageAndTasks, cgroup.Usage)
}

// SandboxFigures is SandboxStats with all that the kernel tells; sockets are looked for
// in containers and not once more in their pod.
func (m *Manager) SandboxFigures(ctx context.Context, id string) (SandboxStats, error) {
	return m.sandboxStats(ctx, id, cgroup.Figures, cgroup.Everything)
}

func (m *Manager) sandboxStats(ctx context.Context, id string, own, containers cgroup.Extent) (SandboxStats, error) {
	sb, err := m.Sandbox(id)
	if err != nil {
		return SandboxStats{}, err
	}
	stats := SandboxStats{Sandbox: sb, At: time.Now()}
	if sb.CgroupParent != "" {
		if stats.Cgroup, err = m.cgroups.Read(m.cgroups.PodPath(sb.CgroupParent), own); err != nil && !errors.Is(err, pod.ErrNotFound) {
			return SandboxStats{}, fmt.Errorf("read figures of sandbox %s: %w", sb.ID.Short(), err)
		}
	}
	if sb.Namespaces.Net != "" {
		if stats.Interfaces, err = network.Stats(sb.Namespaces.Net); err != nil {
			warn(ctx, "read a pod's network figures", err, "sandbox", sb.ID)
		}
	}
	for _, c := range m.ContainersOf(sb.ID) {
		if c.State != pod.Running && c.State != pod.Stopping {
			continue
		}
		one, err := m.statsOf(ctx, c, containers)
		if err != nil {
			continue // it is going away
		}
		stats.Containers = append(stats.Containers, one)
	}
	return stats, nil
}

// ReopenLog makes the monitor write to a new file at the log path, which the
// caller has renamed before. The container must run.
func (m *Manager) ReopenLog(ctx context.Context, id string) (err error) {
	ctx, span := telemetry.Start(ctx, "lifecycle.reopen_log", telemetry.KeyContainerID.String(id))
	defer span.End(&err)
	e, monitor, err := m.running(id)
	if err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	c := *e.value.Load()
	if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil { // else it is going
		span.Set(telemetry.ContainerAttributes(*owner.value.Load(), c)...)
	}
	if err := monitor.ReopenLog(ctx); err != nil {
		return fmt.Errorf("reopen log of container %s: %w", e.value.Load().ID.Short(), err)
	}
	return nil
}

// openFiles is how many files a container's first process may have open; 0 when that
// cannot be told: it has ended, or is in a virtual machine.
func openFiles(c pod.Container) uint64 {
	if c.Init.PID == 0 {
		return 0
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(c.Init.PID, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
