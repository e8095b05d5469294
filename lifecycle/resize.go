package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// UpdateResources changes the limits of a Created or Running container: all of them
// or, when one cannot be set, none. On failure the old ones are in force and on record.
func (m *Manager) UpdateResources(ctx context.Context, id string, res *runtime.LinuxContainerResources) error {
	return m.updateResources(ctx, id, res, m.plugins)
}

// updateResources is UpdateResources with the plugins to ask and to tell, nil for none.
func (m *Manager) updateResources(ctx context.Context, id string, res *runtime.LinuxContainerResources, plugins Plugins) (err error) {
	e, sb, err := m.containerAndSandbox(id)
	if err != nil {
		return err
	}
	c := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "update_resources", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	op.enter("lock")
	if err := e.lock.acquire(ctx, c.ID); err != nil {
		return err
	}
	defer e.lock.release()
	c = *e.value.Load()
	if c.State != pod.Created && c.State != pod.Running {
		return fmt.Errorf("update resources of container %s: %w: it is %s", c.ID.Short(), pod.ErrState, c.State)
	}
	if plugins != nil {
		op.enter("plugins")
		if res, err = plugins.UpdateContainer(ctx, sb, c, res); err != nil {
			return fmt.Errorf("update resources of container %s: %w", c.ID.Short(), err)
		}
	}
	before := c.Config.GetLinux().GetResources()
	if c.Resources != nil {
		before = c.Resources.LinuxContainerResources
	}
	merged := &pod.Resources{LinuxContainerResources: spec.MergeResources(before, res)}

	var back []func() error
	defer func() {
		if err != nil {
			op.enter("undo")
			for _, restore := range slices.Backward(back) {
				err = errors.Join(err, restore())
			}
			err = fmt.Errorf("update resources of container %s: %w", c.ID.Short(), err)
		}
	}()
	if err := op.step(ctx, "oom_score", func(context.Context) error {
		restore, err := m.rescore(c, before.GetOomScoreAdj(), merged.GetOomScoreAdj())
		back = append(back, restore)
		return err
	}); err != nil {
		return err
	}
	if err := op.step(ctx, "cgroup", func(context.Context) error {
		limits, err := m.host.Limits(merged)
		if err != nil {
			return err
		}
		restore, err := m.cgroups.Apply(c.Cgroup, limits)
		if err == nil {
			back = append(back, restore)
		}
		return err
	}); err != nil {
		return err
	}
	if err := op.step(ctx, "record", func(context.Context) error {
		back = append(back, func() error {
			_, err := m.putContainer(e, e.value.Load().State, func(next *pod.Container) { next.Resources = c.Resources })
			return err
		})
		_, err := m.putContainer(e, e.value.Load().State, func(next *pod.Container) { next.Resources = merged })
		return err
	}); err != nil || plugins == nil {
		return err
	}
	op.enter("plugins")
	warn(ctx, "tell plugins of changed limits", m.tell(ctx, e, Plugins.PostUpdateContainer), "container", c.ID)
	return nil
}

// rescore gives the container's processes another oom_score_adj: those that have the
// one they were started with, because a process that chose its own keeps it
// (proc_pid_oom_score_adj(5)). restore puts the old one back and is never nil.
func (m *Manager) rescore(c pod.Container, from, to int64) (restore func() error, err error) {
	restore = func() error { return nil }
	old, err := spec.OOMScoreAdj(from, m.host.Facts, nil)
	if err != nil {
		return restore, err
	}
	score, err := spec.OOMScoreAdj(to, m.host.Facts, m.host.Warn)
	if err != nil || score == old {
		return restore, err
	}
	restore = func() error { return m.setScore(c, score, old) }
	return restore, m.setScore(c, old, score)
}

func (m *Manager) setScore(c pod.Container, from, to int) error {
	pids, err := m.cgroups.Procs(c.Cgroup)
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
		raw, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(raw)) != strconv.Itoa(from) {
			continue // it has ended, or has one of its own
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(to)), 0); ignoreGone(err) != nil {
			errs = append(errs, fmt.Errorf("set oom_score_adj of process %d to %d: %w", pid, to, host.RootCause(err)))
		}
	}
	return errors.Join(errs...)
}

// UpdateSandboxResources takes note of what the pod's containers need together and of
// the pod's overhead. Kubelet has changed the pod's cgroup already; where the runtime
// made that cgroup, because nobody else had, the limits are set here: all or none.
func (m *Manager) UpdateSandboxResources(ctx context.Context, id string, overhead, resources *runtime.LinuxContainerResources) (err error) {
	e, err := m.index.sandbox(id)
	if err != nil {
		return err
	}
	sb := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "update_sandbox_resources", subject(sb), sb.ID, telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	op.enter("lock")
	if err := e.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer e.lock.release()
	if sb = *e.value.Load(); sb.State != pod.Ready {
		return fmt.Errorf("update resources of sandbox %s: %w: it is %s", sb.ID.Short(), pod.ErrState, sb.State)
	}
	if m.plugins != nil {
		op.enter("plugins")
		if err := m.plugins.UpdateSandbox(ctx, sb, overhead, resources); err != nil {
			return fmt.Errorf("update resources of sandbox %s: %w", sb.ID.Short(), err)
		}
	}
	restore := func() error { return nil }
	if err := op.step(ctx, "cgroup", func(context.Context) (err error) {
		limits, err := m.host.Limits(wrap(resources)) // also checks what is only noted
		if err != nil || !sb.OwnCgroup {
			return err
		}
		restore, err = m.cgroups.Apply(m.cgroups.PodPath(sb.CgroupParent), limits)
		return err
	}); err != nil {
		return fmt.Errorf("update resources of sandbox %s: %w", sb.ID.Short(), err)
	}
	if err := op.step(ctx, "record", func(context.Context) error {
		_, err := m.putSandbox(e, sb.State, func(next *pod.Sandbox) {
			next.Overhead, next.Resources = keep(sb.Overhead, overhead), keep(sb.Resources, resources)
		})
		if err != nil {
			return errors.Join(err, restore())
		}
		return nil
	}); err != nil || m.plugins == nil {
		return err
	}
	op.enter("plugins")
	warn(ctx, "tell plugins of a pod's changed limits", m.plugins.PostUpdateSandbox(ctx, *e.value.Load()), "sandbox", sb.ID)
	return nil
}

func wrap(res *runtime.LinuxContainerResources) *pod.Resources {
	if res == nil {
		return nil
	}
	return &pod.Resources{LinuxContainerResources: res}
}

// keep is the new message, or the old one when the request leaves it out.
func keep(old *pod.Resources, res *runtime.LinuxContainerResources) *pod.Resources {
	if res == nil {
		return old
	}
	return wrap(res)
}
