package lifecycle

import (
	"slices"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// A reader of events whose daemon died must not miss what happened until it is
// connected again: what the daemon before had on record and perhaps had not sent, the
// exits that nobody was there to see, and what the new daemon did before the reader
// came back. So for a while after its start a daemon remembers events, and hands them
// to every reader that asks for them, before the new ones. They carry the time at
// which the thing happened, and they may repeat what the reader has seen.
//
// What is remembered begins with one event per record that changed shortly before the
// start: the last fact that its state tells. A removal that was completed in the
// instant before the death leaves no record and is not among them. OOM kills and denials
// are no changes of state, and a storm of them must not take the place of those.

const (
	// replayFor is how long after its start a daemon remembers events, and how long
	// before its start a record's last change is told.
	replayFor = 5 * time.Minute
	// replayMost bounds the memory; beyond it the oldest are forgotten. A reader lists
	// when it connects, so it misses no object, only a step of its life.
	replayMost = 1024
)

// past is what the hub remembers. The zero value remembers nothing; open begins.
type past struct {
	until  time.Time
	events []*pod.Event
}

func (p *past) open(now time.Time) { p.until = now.Add(replayFor) }

// note remembers an event while the time for it lasts.
func (p *past) note(e *pod.Event, now time.Time) {
	if now.After(p.until) {
		p.events = nil
		return
	}
	if !e.Kind.Change() {
		return
	}
	if len(p.events) == replayMost {
		p.events = slices.Delete(p.events, 0, replayMost/4) // not one by one: a storm would copy all each time
	}
	p.events = append(p.events, e)
}

// recall is what a reader that connects now may have missed.
func (p *past) recall(now time.Time) []*pod.Event {
	if now.After(p.until) {
		p.events = nil
	}
	return p.events
}

// replayRecords begins to remember, with what the records say happened last. Recover
// calls it before it changes anything.
func (m *Manager) replayRecords(now time.Time) {
	var events []pod.Event
	for _, e := range m.index.allSandboxes() {
		sb := *e.value.Load()
		switch {
		case sb.State == pod.Ready && now.Sub(sb.CreatedAt) < replayFor:
			events = append(events, pod.Event{Kind: pod.SandboxReady, Time: sb.CreatedAt, Sandbox: sb, From: pod.Creating, To: pod.Ready})
		case sb.State == pod.NotReady && now.Sub(sb.StoppedAt) < replayFor:
			events = append(events, pod.Event{Kind: pod.SandboxStopped, Time: sb.StoppedAt, Sandbox: sb, From: pod.Stopping, To: pod.NotReady})
		}
	}
	for _, e := range m.index.allContainers() {
		c := *e.value.Load()
		kind, at, from := lastFact(c)
		if kind == "" || now.Sub(at) >= replayFor {
			continue
		}
		event := pod.Event{Kind: kind, Time: at, Container: &c, From: from, To: c.State}
		if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil {
			event.Sandbox = *owner.value.Load()
			events = append(events, event)
		}
	}
	slices.SortFunc(events, func(a, b pod.Event) int { return a.Time.Compare(b.Time) })
	if len(events) > replayMost/2 {
		events = events[len(events)-replayMost/2:]
	}
	for i := range events {
		events[i].Siblings = m.ContainersOf(events[i].Sandbox.ID)
	}
	m.hub.remember(events, now)
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

// remember opens the past with events that are not published: those who subscribed
// before know the daemon from its start.
func (h *hub) remember(events []pod.Event, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.open(now)
	for _, e := range events {
		h.seq++
		e.Seq = h.seq
		h.past.note(&e, now)
	}
}
