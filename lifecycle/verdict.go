package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// judge completes an exit with its verdict: reason, one sentence, and who sent the
// signal. It reads the evidence, so it comes before untrack and before the cgroup goes.
func (m *Manager) judge(ctx context.Context, e *containerEntry, exit pod.Exit, at time.Time) pod.Exit {
	m.takeDenials(ctx, e)
	m.keepSyscalls(ctx, e)
	m.keepFlight(ctx, e, exit)
	evidence, last, signals := m.evidence(ctx, e, at)
	c := *e.value.Load()
	evidence.Signal, evidence.ExitCode = exit.Signal, int(exit.Code)
	switch why := m.killedForCalls(c); {
	case why != "" && exit.Signal == int(unix.SIGKILL):
		exit.Reason, exit.Message = pod.SeccompKilled, why
		return exit
	case exit.Reason == "StartError":
		evidence.Phase = oom.Creating
		if v := oom.Verdict(evidence); v.Message != "" {
			exit.Message = v.Message + ": " + exit.Message
		}
		return exit
	case exit.Source == "unknown": // how it ended is not known; what happened before is
		evidence.Phase = oom.Running
		exit.Message = sentences(exit.Message, oom.Verdict(evidence).Message)
		return exit
	}
	verdict := oom.Verdict(evidence)
	if verdict.Reason != "" {
		exit.Reason, exit.Message = verdict.Reason, verdict.Message
		return exit
	}
	ending := oom.Ending{
		Signal: exit.Signal, ExitCode: int(exit.Code), CoreDumped: exit.CoreDumped, At: at,
		Observed: signals, Sent: last.InitSignal, Stop: c.Evidence.Stop,
	}
	if last.InitSignal != nil {
		ending.From, ending.Name = m.place(e, last.InitSignal)
	}
	message, sender := oom.End(ending)
	if !verdict.Sure && verdict.Message != "" && sender == nil {
		message = "" // the verdict's doubt says it all
	}
	exit.Message, exit.Sender = sentences(message, verdict.Message), sender
	return exit
}

// evidence gathers what the witness and the cgroup know, and puts kills on record that
// were not told yet. signals says that the signal program saw the container to its end.
func (m *Manager) evidence(ctx context.Context, e *containerEntry, at time.Time) (ev oom.Evidence, last oom.Last, signals bool) {
	c := *e.value.Load()
	ev.ExitedAt = sinceBoot() - time.Since(at)
	ev.Limit = memoryLimit(c)
	ev.Pod = m.podCgroupID(c)
	if counts, err := m.cgroups.OOMCounts(c.Cgroup); c.Cgroup != "" && err == nil {
		ev.Counter = oom.Counter{Known: c.Evidence.Counted, Before: c.Evidence.CountedBefore, After: counts.Kills,
			Group: counts.GroupKills > 0, Peak: counts.PeakTasks}
	}
	if c.Evidence.PodCounted {
		kills, err := m.cgroups.OOMKillsBelow(path.Dir(c.Cgroup))
		ev.Counter.Pod = oom.PodCounter{Known: err == nil, Before: c.Evidence.PodCountedBefore, After: kills}
	}
	if !m.watched.has(c.Evidence.Cgroup) {
		return ev, last, false
	}
	last, err := m.witness.Last(c.Evidence.Cgroup)
	if err != nil {
		warn(ctx, "read what was observed of a container; going by its counters", err, "container", c.ID)
		return ev, oom.Last{}, false
	}
	ev.Observed, ev.Last = m.witness.Observes(oom.KindOOM), last
	for _, r := range []*oom.Record{last.InitOOM, last.OOM} {
		if r != nil {
			m.addKill(ctx, e, *r)
		}
	}
	return ev, last, m.witness.Observes(oom.KindSignal)
}

// place says where the sender of a signal was, and its name in people's words.
func (m *Manager) place(e *containerEntry, sent *oom.Record) (from, name string) {
	c := e.value.Load()
	if o := m.within(sent.Signal.Sender.Cgroup); o != nil && o.ID == c.ID {
		return pod.FromContainer, ""
	} else if o != nil {
		name = "container " + o.Config.GetMetadata().GetName()
		if owner, err := m.index.sandbox(string(o.SandboxID)); err == nil && o.SandboxID != c.SandboxID {
			name += " of pod " + subject(*owner.value.Load())
		}
		return pod.FromOther, name
	}
	monitor := 0
	if client := e.monitor.Load(); client != nil {
		monitor = client.MonitorPID()
	}
	if oom.OfRuntime(sent, os.Getpid(), monitor) {
		return pod.FromRuntime, ""
	}
	return pod.FromHost, ""
}

// within finds the container whose memory cgroup this is, or lies in; nil if it is none's.
func (m *Manager) within(cgroup uint64) *pod.Container {
	dir, err := m.cgroups.Path(cgroup)
	for _, e := range m.index.allContainers() {
		c := e.value.Load()
		if c.Evidence.Cgroup != 0 && c.Evidence.Cgroup == cgroup ||
			err == nil && c.Cgroup != "" && (dir == c.Cgroup || strings.HasPrefix(dir, c.Cgroup+"/")) {
			return c
		}
	}
	return nil
}

// stopRequested notes who wants the container to end.
func stopRequested(ctx context.Context, grace time.Duration) func(*pod.Container) {
	return func(next *pod.Container) {
		next.Evidence.Stop = &pod.Stop{At: time.Now(), Signal: next.StopSignal, Grace: grace, Traceparent: telemetry.Traceparent(ctx)}
	}
}

// graceOver notes that the grace period of this request is over, before the kill.
func (m *Manager) graceOver(ctx context.Context, e *containerEntry, grace time.Duration) {
	_, err := m.putContainer(e, pod.Stopping, func(next *pod.Container) {
		stop := pod.Stop{At: time.Now(), Signal: next.StopSignal}
		if next.Evidence.Stop != nil {
			stop = *next.Evidence.Stop
		}
		if !stop.KilledAt.IsZero() {
			return // another request came first
		}
		stop.Grace, stop.KilledAt, stop.Traceparent = grace, time.Now(), cmp.Or(telemetry.Traceparent(ctx), stop.Traceparent)
		stop.Unheard = proc.Unheard(next.Init.PID, stop.Signal)
		next.Evidence.Stop = &stop
	})
	if !errors.Is(err, pod.ErrState) { // it has ended meanwhile
		warn(ctx, "record that a grace period is over", err, "container", e.value.Load().ID)
	}
}

// memoryLimit is the limit in force in bytes, 0 for none.
func memoryLimit(c pod.Container) uint64 {
	if c.Resources == nil {
		return 0
	}
	return uint64(max(0, c.Resources.GetMemoryLimitInBytes()))
}

// sentences joins what there is.
func sentences(parts ...string) string {
	var said []string
	for _, p := range parts {
		if p != "" {
			said = append(said, p)
		}
	}
	return strings.Join(said, "; ")
}
