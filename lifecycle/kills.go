package lifecycle

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// takeKill finds the container of an OOM kill. One that has been removed meanwhile has
// told its end already.
func (m *Manager) takeKill(ctx context.Context, r oom.Record) {
	for _, e := range m.index.allContainers() {
		if c := e.value.Load(); c.Evidence.Cgroup == r.Cgroup && c.State != pod.Creating {
			ctx := telemetry.WithTraceparent(ctx, c.Traceparent)
			if opened := m.execs.opening(c.ID, r.Time); opened != nil && !entered(r) { // what the kernel tells next must not wait
				m.background(func(daemon context.Context) { opened(daemon); m.addKill(ctx, e, r) })
			} else {
				m.addKill(ctx, e, r)
			}
			return
		}
	}
}

// addKill puts an OOM kill on the container's record and publishes it, once, however
// often and from wherever it is told.
func (m *Manager) addKill(ctx context.Context, e *containerEntry, r oom.Record) {
	c := e.value.Load()
	kill, counts := oom.Kill(r, m.podCgroupID(*c), time.Now(), sinceBoot())
	if !counts {
		return
	}
	kill.Exec = entered(r) || m.execs.had(c.ID, kill.Victim.PID, kill.SinceBoot)
	if kill.Scene != nil {
		for i, p := range kill.Scene.Largest {
			if o := m.within(p.Cgroup); o != nil {
				kill.Scene.Largest[i].Container = o.ID
			}
		}
	}
	for range 3 { // the state may move between look and door
		fresh := false
		next, err := m.putContainer(e, e.value.Load().State, func(next *pod.Container) {
			ev := &next.Evidence
			if fresh = !slices.ContainsFunc(ev.Kills, func(k pod.OOMKill) bool {
				return k.SinceBoot == kill.SinceBoot && k.Victim.PID == kill.Victim.PID
			}); !fresh {
				return
			}
			// A later kill that was told before this one has counted it already.
			late := len(ev.Kills) > 0 && kill.SinceBoot < ev.Kills[len(ev.Kills)-1].SinceBoot
			if !late || r.OOM.Kills == 0 || r.OOM.Kills > ev.OOMKills {
				ev.OOMKills = max(ev.OOMKills+1, r.OOM.Kills)
			}
			ev.Kills = append(slices.Clone(ev.Kills), kill)
			slices.SortFunc(ev.Kills, func(a, b pod.OOMKill) int { return int(a.SinceBoot - b.SinceBoot) })
			ev.Kills = ev.Kills[max(0, len(ev.Kills)-pod.MaxKills):]
		})
		if errors.Is(err, pod.ErrState) {
			continue
		}
		warn(ctx, "record an OOM kill", err, "container", c.ID)
		if fresh {
			m.publishKill(next, kill)
		}
		return
	}
}

// entered says that the kernel saw the victim as the process of an exec session, however
// that was begun: by which daemon, runtime or person. Otherwise the daemon's own word
// counts, which is all there is in a container that shares the host's pid namespace.
func entered(r oom.Record) bool { return r.OOM != nil && r.OOM.Entered && !r.Init }

func (m *Manager) publishKill(c pod.Container, kill pod.OOMKill) {
	m.publish(pod.Event{Kind: pod.ContainerOOM, Container: &c, From: c.State, To: c.State, Kill: &kill})
}
