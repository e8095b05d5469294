package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// exporter brings one signal to the collector. It is two goroutines and a spool:
//
//	put ─► items ─► collect ─┬─► outbox ─► deliver ─► collector
//	       queue   batches   │             │   ▲
//	                         └──► spool ◄──┘───┘  while the collector does not keep up
//
// Nothing ever waits for it. Collecting never waits for the network: a batch that
// deliver is not ready for goes to disk, so that a collector that is absent, slow or
// silent costs the spool's bytes and no data until these are used up. What gives way
// then, or does not fit the queue, is dropped and counted. Without a spool collecting
// waits for delivery, and the queue is all there is.
type exporter struct {
	of       signal
	settings exportSettings
	assemble func([]item) (proto.Message, int)
	wire     *transport
	metrics  *metrics
	spool    *spool // nil: none
	failure  func(error)

	items  chan item
	outbox chan batch
	// kept wakes deliver when the spool has something.
	kept chan struct{}

	putting sync.RWMutex // held to put; guards ended
	ended   bool
	stop    chan struct{} // collect puts away what there is and ends
	last    chan struct{} // collect has ended
	done    sync.WaitGroup
	closed  sync.Once
	// abort ends an export that is going on when Close runs out of time.
	abort context.CancelFunc
}

// item is what waits for a batch: an SDK span, or a message of the signal's
// protobuf types. count is in spans, records or metrics, size in bytes, roughly.
type item struct {
	what        any
	count, size int
}

// batch is an encoded export request. sent forgets one that the spool keeps; nil
// for one that is only in memory.
type batch struct {
	raw   []byte
	count int
	sent  func()
}

const (
	// maxBatchBytes ends a batch that many items of a usual size would not. A
	// collector's usual bound is 4 MiB.
	maxBatchBytes = 2 << 20
	// maxOutbox are the batches that wait in memory for an export to end.
	maxOutbox = 2
)

// startExporter begins exporting; Close ends it. failure hears of what did not
// arrive, and must not block.
func startExporter(ctx context.Context, of signal, s exportSettings, assemble func([]item) (proto.Message, int), wire *transport, m *metrics, sp *spool, failure func(error)) *exporter {
	e := &exporter{of: of, settings: s, assemble: assemble, wire: wire, metrics: m, spool: sp, failure: failure,
		items: make(chan item, s.queue), outbox: make(chan batch, maxOutbox), kept: make(chan struct{}, 1),
		stop: make(chan struct{}), last: make(chan struct{})}
	// The exporter outlives the context of its start; Close ends it.
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	e.abort = abort
	e.done.Go(func() { defer close(e.last); e.collect(work) })
	e.done.Go(func() { e.deliver(work) })
	return e
}

// put never blocks. A nil exporter takes nothing.
func (e *exporter) put(i item) {
	if e == nil || i.count == 0 {
		return
	}
	e.putting.RLock()
	defer e.putting.RUnlock()
	if e.ended {
		e.drop(i.count, "shutdown")
		return
	}
	select {
	case e.items <- i:
	default:
		e.drop(i.count, "queue_full")
	}
}

// putAway is put for what happens once and seldom: with a spool the item is on disk, a
// batch of its own, when putAway returns, so that the daemon's death does not lose it. It
// waits for the disk. A nil exporter takes nothing.
func (e *exporter) putAway(i item) {
	if e == nil || e.spool == nil || i.count == 0 {
		e.put(i)
		return
	}
	e.putting.RLock()
	defer e.putting.RUnlock()
	if e.ended {
		e.drop(i.count, "shutdown")
		return
	}
	if b, ok := e.encode([]item{i}); ok {
		e.keep(b)
	}
}

// waiting is how many items have not been collected.
func (e *exporter) waiting() int {
	if e == nil {
		return 0
	}
	return len(e.items)
}

func (e *exporter) drop(count int, reason string) {
	e.metrics.add(dropped, float64(count), string(e.of), reason)
}

// collect makes batches of items until stop, and then of what is left.
func (e *exporter) collect(ctx context.Context) {
	timer := time.NewTicker(e.settings.delay)
	defer timer.Stop()
	var items []item
	bytes := 0
	flush := func() {
		if len(items) > 0 {
			e.handOver(ctx, items)
		}
		clear(items)
		items, bytes = items[:0], 0
	}
	take := func(i item) {
		items, bytes = append(items, i), bytes+i.size
		if len(items) >= e.settings.batch || bytes >= maxBatchBytes {
			flush()
		}
	}
	for {
		select {
		case i := <-e.items:
			take(i)
		case <-timer.C:
			flush()
		case <-e.stop: // nothing is put any more
			for len(e.items) > 0 {
				take(<-e.items)
			}
			flush()
			return
		}
	}
}

// handOver gives a batch to deliver, or to the spool while deliver does not keep up.
func (e *exporter) handOver(ctx context.Context, items []item) {
	b, ok := e.encode(items)
	if !ok {
		return
	}
	if e.spool == nil {
		select {
		case e.outbox <- b:
		case <-ctx.Done():
			e.drop(b.count, "shutdown")
		}
		return
	}
	if e.spool.size(e.of) == 0 { // else it has its turn behind what is there
		select {
		case e.outbox <- b:
			return
		default:
		}
	}
	e.keep(b)
}

// encode makes a batch; what cannot be one is dropped and counted.
func (e *exporter) encode(items []item) (b batch, ok bool) {
	message, count := e.assemble(items)
	raw, err := proto.Marshal(message)
	if err != nil { // text that is no UTF-8
		e.drop(count, "malformed")
		e.failure(fmt.Errorf("encode %d %s: %w", count, e.of, err))
		return b, false
	}
	return batch{raw: raw, count: count}, true
}

// keep puts a batch away for later.
func (e *exporter) keep(b batch) {
	lost, err := e.spool.put(e.of, b)
	for of, count := range lost {
		e.metrics.add(dropped, float64(count), string(of), "spool_full")
	}
	if err != nil {
		e.failure(err)
		return
	}
	select {
	case e.kept <- struct{}{}:
	default:
	}
}

// Close puts away what waits and stops: to the collector as far as ctx allows, the
// rest to the spool, or without one to nowhere, counted. A nil exporter is closed.
func (e *exporter) Close(ctx context.Context) error {
	if e == nil {
		return nil
	}
	var err error
	e.closed.Do(func() {
		e.putting.Lock()
		e.ended = true
		e.putting.Unlock()
		close(e.stop)
		late := context.AfterFunc(ctx, e.abort)
		e.done.Wait()
		e.clearOutbox()
		if !late() {
			err = fmt.Errorf("export %s: %w", e.of, context.Cause(ctx))
		}
		e.abort()
		e.wire.close()
	})
	return err
}
