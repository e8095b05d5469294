package events

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
// What is remembered begins with what Remember is given, one event per record that changed
// shortly before the start: the last fact that its state tells. A removal that was completed in the
// instant before the death leaves no record and is not among them. OOM kills and denials
// are no changes of state, and a storm of them must not take the place of those.

const (
	// ReplayFor is how long after its start a daemon remembers events, and how long
	// before its start a record's last change is told.
	ReplayFor = 5 * time.Minute
	// ReplayMost bounds the memory; beyond it the oldest are forgotten. A reader lists
	// when it connects, so it misses no object, only a step of its life.
	ReplayMost = 1024
)

// past is what a hub remembers. The zero value remembers nothing; open begins.
type past struct {
	until  time.Time
	events []*pod.Event
}

func (p *past) open(now time.Time) { p.until = now.Add(ReplayFor) }

// note remembers an event while the time for it lasts.
func (p *past) note(e *pod.Event, now time.Time) {
	if now.After(p.until) {
		p.events = nil
		return
	}
	if !e.Kind.Change() {
		return
	}
	if len(p.events) == ReplayMost {
		p.events = slices.Delete(p.events, 0, ReplayMost/4) // not one by one: a storm would copy all each time
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

// Remember opens the past with events that are not published: those who subscribed
// before know the daemon from its start.
func (h *Hub) Remember(events []pod.Event, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.open(now)
	for _, e := range events {
		h.seq++
		e.Seq = h.seq
		h.past.note(&e, now)
	}
}
