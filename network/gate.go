package network

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// gate keeps ADD and the plugins' GC apart. Any number may be inside, or it is shut;
// whoever wants to shut it waits for a moment in which nobody is inside and keeps
// nobody out meanwhile, so that a plugin that hangs inside delays GC only.
type gate struct {
	mu     sync.Mutex // guards the fields below
	inside int
	shutBy chan struct{} // closed when the gate opens again; nil: it is open
}

// shutPatience is how long shut waits for its moment.
const shutPatience = time.Minute

// enter waits until the gate is open.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		opens := g.shutBy
		if opens == nil {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-opens:
		case <-ctx.Done():
			return fmt.Errorf("wait for the plugins' GC: %w", context.Cause(ctx))
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
}

// shut waits for a moment with nobody inside, at most shutPatience: pod.ErrUnavailable.
func (g *gate) shut(ctx context.Context) error {
	patience := time.After(shutPatience)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		g.mu.Lock()
		if g.inside == 0 && g.shutBy == nil {
			g.shutBy = make(chan struct{})
			g.mu.Unlock()
			return nil
		}
		inside := g.inside
		g.mu.Unlock()
		select {
		case <-look.C:
		case <-patience:
			return fmt.Errorf("%w: for %s there was always a pod being attached, %d now", pod.ErrUnavailable, shutPatience, inside)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shutBy)
	g.shutBy = nil
}

// stale is the set of attachments that GC may release.
type stale struct {
	mu  sync.Mutex // guards ids
	ids map[string]bool
}

func (s *stale) add(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	for _, id := range ids {
		s.ids[id] = true
	}
}

func (s *stale) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}

func (s *stale) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.ids))
}
