package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

// lock is a mutex whose waiters can give up. It belongs to one sandbox or one
// container and is held for as long as an operation changes it.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

// acquire takes the lock or returns ErrUnavailable when ctx ends first.
func (l lock) acquire(ctx context.Context, what pod.ID) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: another operation on %s is in progress: %w", pod.ErrUnavailable, what.Short(), context.Cause(ctx))
	}
}

func (l lock) release() { <-l }

// flight is one creation in progress. A second request for the same thing waits
// for it instead of starting another: kubelet's retry after a timeout finds the
// first attempt's result.
type flight struct {
	config proto.Message // what was asked for, nil for sandboxes, whose attempts are told apart by number alone
	done   chan struct{} // closed when id and err are set
	id     pod.ID
	err    error
}

// wait returns the flight's outcome, or ErrUnavailable when ctx ends first; the
// flight goes on without its waiter.
func (f *flight) wait(ctx context.Context) (pod.ID, error) {
	select {
	case <-f.done:
		return f.id, f.err
	case <-ctx.Done():
		return "", fmt.Errorf("%w: still in progress when the request ended: %w", pod.ErrDeadline, context.Cause(ctx))
	}
}

// fly does the work of the flight that the caller has entered under key, on the
// daemon's time, and waits for it as any other request would. flights is one of the
// index's maps; the flight is in it until its outcome is known.
func fly[K comparable](ctx context.Context, m *Manager, flights map[K]*flight, key K, id pod.ID, do func(context.Context) error) (pod.ID, error) {
	m.index.mu.RLock()
	f := flights[key]
	m.index.mu.RUnlock()
	work, cancel := m.detached(ctx, m.config.createTimeout())
	m.background(func(context.Context) {
		defer cancel()
		err := guarded(work, do)
		m.index.mu.Lock()
		delete(flights, key)
		m.index.mu.Unlock()
		if f.err = err; err == nil {
			f.id = id
		}
		close(f.done)
	})
	return f.wait(ctx)
}

// guarded makes of a panic the error of this one creation. It happens on a goroutine of
// the daemon's own, where it would end the daemon, and kubelet would ask for the same pod
// again after each restart. What was made is on record and cleared by the next attempt.
func guarded(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			slog.ErrorContext(ctx, "a creation panicked", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", pod.ErrBug, cause)
		}
	}()
	return do(ctx)
}
