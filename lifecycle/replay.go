package lifecycle

import (
	"slices"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/events"
	"github.com/vitrine-runtime/vitrine/pod"
)

// replayRecords begins to remember, with what the records say happened last. Recover
// calls it before it changes anything. See package events.
func (m *Manager) replayRecords(now time.Time) {
	var last []pod.Event
	for _, e := range m.index.allSandboxes() {
		sb := *e.value.Load()
		switch {
		case sb.State == pod.Ready && now.Sub(sb.CreatedAt) < events.ReplayFor:
			last = append(last, pod.Event{Kind: pod.SandboxReady, Time: sb.CreatedAt, Sandbox: sb, From: pod.Creating, To: pod.Ready})
		case sb.State == pod.NotReady && now.Sub(sb.StoppedAt) < events.ReplayFor:
			last = append(last, pod.Event{Kind: pod.SandboxStopped, Time: sb.StoppedAt, Sandbox: sb, From: pod.Stopping, To: pod.NotReady})
		}
	}
	for _, e := range m.index.allContainers() {
		c := *e.value.Load()
		kind, at, from := lastFact(c)
		if kind == "" || now.Sub(at) >= events.ReplayFor {
			continue
		}
		event := pod.Event{Kind: kind, Time: at, Container: &c, From: from, To: c.State}
		if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil {
			event.Sandbox = *owner.value.Load()
			last = append(last, event)
		}
	}
	slices.SortFunc(last, func(a, b pod.Event) int { return a.Time.Compare(b.Time) })
	if len(last) > events.ReplayMost/2 {
		last = last[len(last)-events.ReplayMost/2:]
	}
	for i := range last {
		last[i].Siblings = m.ContainersOf(last[i].Sandbox.ID)
	}
	m.hub.Remember(last, now)
}

// lastFact is the last event that a container's record stands for.
func lastFact(c pod.Container) (kind pod.EventKind, at time.Time, from pod.State) {
	switch c.State {
	case pod.Created, pod.Starting:
		return pod.ContainerCreated, c.CreatedAt, pod.Creating
	case pod.Running, pod.Stopping:
		return pod.ContainerStarted, c.StartedAt, pod.Starting
	case pod.Exited:
		return pod.ContainerExited, c.FinishedAt, pod.Running
	}
	return "", time.Time{}, 0
}
