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
	once sync.Once
	done chan struct{} // closed when the following are set

	mu    sync.Mutex // guards gate
	gate  *os.File   // the write end; nil once Proceed or Cancel was called
	spare bool

	monitor *Monitor
	created Created
	err     error
}

// StartEarly is Start, except that nothing is read below s.Request, nor any process of
// the container started, before Proceed. It does not wait for the monitor. Spare, which it
// takes over unless it is nil, becomes the monitor; it must serve s. One that has died
// meanwhile is replaced.
func StartEarly(ctx context.Context, s Spawn, spare *Spare) (*Early, error) {
	config, err := s.config(ctx)
	var theirs *os.File
	e := &Early{id: s.ID, done: make(chan struct{}), spare: spare != nil}
	if err == nil {
		theirs, err = e.newGate()
	}
	if err != nil {
		if spare != nil {
			err = joinUndo(err, spare.Close())
		}
		return nil, fmt.Errorf("create container %s: %w", s.ID, err)
	}
	go func() { // Proceed and Cancel wait for it
		defer close(e.done)
		e.monitor, e.created, e.err = start(ctx, s, config, theirs, spare)
		if spare == nil || !errors.Is(e.err, ErrLost) {
			return
		}
		if gate := e.again(); gate != nil {
			e.monitor, e.created, e.err = start(ctx, s, config, gate, nil)
		}
	}()
	return e, nil
}

// newGate makes the gate and returns its read end.
func (e *Early) newGate() (theirs *os.File, err error) {
	theirs, e.gate, err = os.Pipe()
	if err != nil {
		err = fmt.Errorf("make gate: %w", err)
	}
	return theirs, err
}

// again makes another gate for another launcher. It returns nil if the first may have been
// passed: what a launcher has done then cannot be known.
func (e *Early) again() (theirs *os.File) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gate == nil {
		return nil
	}
	e.gate.Close()
	theirs, err := e.newGate()
	if err != nil {
		return nil
	}
	e.spare = false
	return theirs
}

// leave closes the gate, or opens it first.
func (e *Early) leave(open bool) {
	e.mu.Lock()
	gate := e.gate
	e.gate = nil
	e.mu.Unlock()
	if open {
		_, _ = gate.Write([]byte{1}) // a monitor that has failed meanwhile says so itself
	}
	gate.Close()
	<-e.done
}

// Proceed lets the launcher go and returns what Start would. The request and all that
// it refers to must be on disk.
func (e *Early) Proceed() (*Monitor, Created, error) {
	err := errors.New("it was given up")
	e.once.Do(func() {
		e.leave(true)
		err = e.err
	})
	if err != nil {
		return nil, Created{}, fmt.Errorf("create container %s: %w", e.id, err)
	}
	return e.monitor, e.created, nil
}

// UsedSpare reports, once Proceed has returned, whether the monitor was a spare.
func (e *Early) UsedSpare() bool { return e.spare }

// Cancel gives the creation up, unless Proceed was called, and waits until nothing of
// it is left.
func (e *Early) Cancel() (err error) {
	e.once.Do(func() {
		e.leave(false)
		if e.err == nil { // it cannot have made a container, but nothing may be left
			err = e.monitor.abandon()
		}
	})
	return err
}
