package lifecycle

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// stallBound bounds the question to a monitor how its log is.
const stallBound = 10 * time.Second

// takeStalls asks the monitor how its log's file system is, puts what it says on the
// container's record and tells of each stall once.
func (m *Manager) takeStalls(ctx context.Context, e *containerEntry, monitor *client.Monitor) {
	ctx, cancel := context.WithTimeout(ctx, stallBound)
	defer cancel()
	counts, err := monitor.Stats(ctx)
	if err != nil {
		return // it ends or is replaced; its exit record, or the next one, tells
	}
	m.noteStalls(telemetry.WithTraceparent(ctx, e.value.Load().Traceparent), e, counts.LogStalls, counts.LogStalledMillis, counts.LogStalledSince)
}

// stallsAtEnd takes them from the exit record.
func (m *Manager) stallsAtEnd(ctx context.Context, e *containerEntry, r wire.Exit) {
	m.noteStalls(ctx, e, uint64(max(r.LogStalls, 0)), uint64(max(r.LogStalledMillis, 0)), 0)
}

// noteStalls takes figures that only grow; since is that of the stall under way, 0 for none.
func (m *Manager) noteStalls(ctx context.Context, e *containerEntry, stalls, millis, since uint64) {
	c := *e.value.Load()
	began := time.Time{}
	if since != 0 {
		began = time.Unix(0, int64(since))
	}
	over := time.Duration(millis) * time.Millisecond
	m.stalls.note(c.ID, over, began)
	for range 3 { // the state may move between look and door
		var before uint64
		fresh := false
		next, err := m.putStalls(e, func(next *pod.Container) bool {
			before = next.Evidence.LogStalls
			fresh = stalls > before
			changed := fresh || over > next.Evidence.LogStalled
			next.Evidence.LogStalls = max(before, stalls)
			next.Evidence.LogStalled = max(over, next.Evidence.LogStalled)
			return changed
		})
		if errors.Is(err, pod.ErrState) {
			continue
		}
		warn(ctx, "record that a container's log stalled", err, "container", c.ID)
		for i := before; fresh && i < stalls; i++ {
			stall := &pod.LogStall{Path: next.LogPath, Before: i}
			if i+1 == stalls {
				stall.Since = began
			}
			m.publish(pod.Event{Kind: pod.ContainerLogStalled, Container: &next, From: next.State, To: next.State, Stall: stall})
		}
		return
	}
}

// putStalls is putContainer where change says that it changed anything.
func (m *Manager) putStalls(e *containerEntry, change func(*pod.Container) bool) (pod.Container, error) {
	if trial := *e.value.Load(); !change(&trial) {
		return trial, nil
	}
	return m.putContainer(e, e.value.Load().State, func(next *pod.Container) { change(next) })
}

// stallTimes adds up for how long containers' logs were given up.
type stallTimes struct {
	mu    sync.Mutex // guards the rest
	total time.Duration
	of    map[pod.ID]stallTime
}

// stallTime is one container's: what is over and in the total, and since when one goes on.
type stallTime struct {
	over  time.Duration
	since time.Time
}

func (s *stallTimes) note(id pod.ID, over time.Duration, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[pod.ID]stallTime{}
	}
	t := s.of[id]
	if over == 0 && since.IsZero() && t == (stallTime{}) {
		return
	}
	s.total += max(0, over-t.over)
	s.of[id] = stallTime{max(over, t.over), since}
}

func (s *stallTimes) forget(id pod.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, id)
}

// LogStalled is for how long logs of containers were given up because their file systems
// did not answer, those under way included, as far as this daemon knows.
func (m *Manager) LogStalled() time.Duration {
	m.stalls.mu.Lock()
	defer m.stalls.mu.Unlock()
	sum := m.stalls.total
	for _, t := range m.stalls.of {
		if !t.since.IsZero() {
			sum += max(0, time.Since(t.since))
		}
	}
	return sum
}
