package events

import (
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Subscription receives every event published after it was made, in order. A
// subscriber that falls behind by more than its buffer is cut off: its channel is
// closed and Lost is true, so that it can subscribe again and list, rather than
// go on with a hole.
type Subscription struct {
	hub    *Hub
	events chan *pod.Event
	lost   bool // guarded by hub.mu
}

// Events is closed by Close, or when the subscriber fell behind. An event is shared by
// all its readers, who do not change it.
func (s *Subscription) Events() <-chan *pod.Event { return s.events }

// Lost says whether the subscription ended because the subscriber fell behind.
func (s *Subscription) Lost() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.lost
}

// Close ends the subscription; it may be called more than once.
func (s *Subscription) Close() { s.hub.drop(s, false) }

// Hub hands each event to every subscriber without ever waiting for one. It is safe for
// concurrent use.
type Hub struct {
	mu   sync.Mutex // guards the rest and the order of events; held while one is completed
	seq  uint64
	subs map[*Subscription]struct{}
	past past
}

// NewHub is a hub without subscribers and without a past.
func NewHub() *Hub { return &Hub{subs: map[*Subscription]struct{}{}} }

// Subscribe adds a subscriber that may be buffer events behind. Its owner closes it.
func (h *Hub) Subscribe(buffer int) *Subscription { return h.join(buffer, false) }

// SubscribeReplay adds a subscriber that first receives what the hub still remembers.
func (h *Hub) SubscribeReplay(buffer int) *Subscription { return h.join(buffer, true) }

func (h *Hub) join(buffer int, replay bool) *Subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	var before []*pod.Event
	if replay {
		before = h.past.recall(time.Now())
	}
	s := &Subscription{hub: h, events: make(chan *pod.Event, max(buffer, 1)+len(before))}
	for _, e := range before {
		s.events <- e
	}
	h.subs[s] = struct{}{}
	return s
}

// Publish numbers an event and hands it out. complete, if not nil, fills in what the
// event's place in the order decides; it must not wait for anything.
func (h *Hub) Publish(e pod.Event, complete func(*pod.Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e.Seq, e.Time = h.seq, time.Now()
	told := &e
	if complete != nil {
		complete(told)
	}
	h.past.note(told, e.Time)
	for s := range h.subs {
		select {
		case s.events <- told:
		default:
			h.dropLocked(s, true)
		}
	}
}

func (h *Hub) drop(s *Subscription, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(s, lost)
}

func (h *Hub) dropLocked(s *Subscription, lost bool) {
	if _, live := h.subs[s]; !live {
		return
	}
	delete(h.subs, s)
	s.lost = lost
	close(s.events)
}
