package image

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// flights makes concurrent pulls of the same thing one pull.
type flights struct {
	mu     sync.Mutex // guards the map and every flight's waiters
	active map[string]*flight
	slots  chan struct{} // one token per pull at work; made on first use
}

// flight is one pull with everybody who waits for it.
type flight struct {
	pull    *pull
	waiters int
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when img and err are set
	img     Image
	err     error
}

// errAbandoned ends a pull that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for the pull any more")

// join runs the pull, or waits for the one of the same key that is under way: leader
// tells which. A waiter leaves when its ctx ends; the pull is canceled when the last
// one has left. It gets the first waiter's values (its span) but not its
// cancellation, and ends with the store.
func (s *Store) join(ctx context.Context, key string, p *pull) (img Image, leader bool, err error) {
	s.flights.mu.Lock()
	if err := s.ctx.Err(); err != nil {
		s.flights.mu.Unlock()
		return Image{}, false, err
	}
	f, joined := s.flights.active[key]
	if !joined {
		if s.flights.active == nil {
			s.flights.active = map[string]*flight{}
		}
		flightCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		f = &flight{pull: p, cancel: cancel, done: make(chan struct{})}
		s.flights.active[key] = f
		s.background(func(closing context.Context) {
			defer context.AfterFunc(closing, func() { cancel(context.Cause(closing)) })()
			defer cancel(nil)
			f.img, f.err = p.run(flightCtx)
			s.flights.forget(key, f)
			close(f.done)
		})
	}
	f.waiters++
	s.flights.mu.Unlock()
	if joined {
		_, span := telemetry.Start(ctx, "image.wait")
		defer span.End(&err)
	}
	select {
	case <-f.done:
		return f.img, !joined, f.err
	case <-ctx.Done():
		s.flights.leave(key, f)
		return Image{}, !joined, context.Cause(ctx)
	}
}

// PullState is one pull under way.
type PullState struct {
	Ref   string
	Since time.Time
	// Phase is the span that is open: image.queue, image.manifest, image.layers….
	Phase string
	// Waiters are the requests that will get the result.
	Waiters int
	// Bytes have arrived of Total, in bytes of compressed layers; Total is 0 until the
	// manifest is known, and does not count layers that are here already.
	Bytes, Total int64
}

// Pulls are the pulls under way, the oldest first.
func (s *Store) Pulls() []PullState {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	var all []PullState
	for _, f := range s.flights.active {
		state := PullState{Ref: f.pull.req.Ref, Since: f.pull.since, Waiters: f.waiters, Bytes: f.pull.bytes.Load(), Total: f.pull.total.Load()}
		if phase := f.pull.phase.Load(); phase != nil {
			state.Phase = *phase
		}
		all = append(all, state)
	}
	slices.SortFunc(all, func(a, b PullState) int { return a.Since.Compare(b.Since) })
	return all
}

// leave takes one waiter away. A flight without waiters is canceled and forgotten, so
// that the next request starts a fresh one instead of inheriting the cancellation.
func (t *flights) leave(key string, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel(errAbandoned)
		if t.active[key] == f {
			delete(t.active, key)
		}
	}
}

func (t *flights) forget(key string, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active[key] == f {
		delete(t.active, key)
	}
}

// acquire takes one of limit places at work, waiting for one.
func (t *flights) acquire(ctx context.Context, limit int) (release func(), err error) {
	t.mu.Lock()
	if t.slots == nil {
		t.slots = make(chan struct{}, limit)
	}
	slots := t.slots
	t.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
