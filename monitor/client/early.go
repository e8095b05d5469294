package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Early is a monitor that starts, and its launcher with it, while what the launcher
// needs is still being made: the two take some milliseconds to begin. Proceed or Cancel
// ends it; whichever comes first counts. When the daemon dies, the launcher gives up,
// and the monitor, with no container and no daemon, ends.
type Early struct {
	id   string
	gate *os.File // the write end
	once sync.Once
	done chan struct{} // closed when the following are set

	monitor *Monitor
	created Created
	err     error
}

// StartEarly is Start, except that nothing is read below s.Request, nor any process of
// the container started, before Proceed. It does not wait for the monitor.
func StartEarly(ctx context.Context, s Spawn) (*Early, error) {
	config, err := s.config(ctx)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", s.ID, err)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("create container %s: make gate: %w", s.ID, err)
	}
	e := &Early{id: s.ID, gate: ours, done: make(chan struct{})}
	go func() { // Proceed and Cancel wait for it
		defer close(e.done)
		e.monitor, e.created, e.err = start(ctx, s, config, theirs)
	}()
	return e, nil
}

// Proceed lets the launcher go and returns what Start would. The request and all that
// it refers to must be on disk.
func (e *Early) Proceed() (*Monitor, Created, error) {
	err := errors.New("it was given up")
	e.once.Do(func() {
		_, _ = e.gate.Write([]byte{1}) // a monitor that has failed meanwhile says so itself
		e.gate.Close()
		<-e.done
		err = e.err
	})
	if err != nil {
		return nil, Created{}, fmt.Errorf("create container %s: %w", e.id, err)
	}
	return e.monitor, e.created, nil
}

// Cancel gives the creation up, unless Proceed was called, and waits until nothing of
// it is left.
func (e *Early) Cancel() (err error) {
	e.once.Do(func() {
		e.gate.Close()
		<-e.done
		if e.err == nil { // it cannot have made a container, but nothing may be left
			err = e.monitor.abandon()
		}
	})
	return err
}
