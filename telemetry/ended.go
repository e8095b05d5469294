package telemetry

import (
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// endedSpans takes what is done with a span that has ended off the path of the work
// that the span times. To end one is to append it to a list. A goroutine feeds store,
// metrics and export; it is woken when a call's own span has ended, not by each step,
// because waking a thread costs more than most steps' bookkeeping.
type endedSpans struct {
	take func(sdktrace.ReadOnlySpan)

	mu      sync.Mutex // guards waiting and closed
	waiting []sdktrace.ReadOnlySpan
	closed  bool

	taking sync.Mutex // held while spans are taken, so that they are taken in order
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}
}

// endedEnough is how many spans may wait for the end of their call.
const endedEnough = 512

func newEndedSpans(take func(sdktrace.ReadOnlySpan)) *endedSpans {
	e := &endedSpans{take: take, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for {
			select {
			case <-e.wake:
				e.settle()
			case <-e.stop:
				return
			}
		}
	}()
	return e
}

func (e *endedSpans) put(s sdktrace.ReadOnlySpan) {
	e.mu.Lock()
	e.waiting = append(e.waiting, s)
	enough, closed := len(e.waiting) >= endedEnough, e.closed
	e.mu.Unlock()
	if closed {
		e.settle()
		return
	}
	if parent := s.Parent(); enough || !parent.IsValid() || parent.IsRemote() {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// settle takes every span that had ended before the call. Whoever shows traces or
// metrics calls it first.
func (e *endedSpans) settle() {
	e.taking.Lock()
	defer e.taking.Unlock()
	e.mu.Lock()
	spans := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	for _, s := range spans {
		e.take(s)
	}
}

// close stops the goroutine and takes what waits; spans that end later are taken at once.
func (e *endedSpans) close() {
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	if !again {
		close(e.stop)
	}
	<-e.done
	e.settle()
}
