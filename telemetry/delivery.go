package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Pauses between attempts, as long as the collector does not name its own.
const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
	// maxWish bounds what a collector may ask for.
	maxWish = 5 * time.Minute
)

// deliver sends batches, one at a time, until collect has ended and nothing is left
// that the collector would take now, or the time of Close is up.
func (e *exporter) deliver(ctx context.Context) {
	pause := time.Duration(0)
	for {
		b, ok := e.nextBatch(ctx)
		if !ok {
			return
		}
		err := e.export(ctx, b)
		var refused refusal
		switch {
		case err == nil, errors.As(err, &refused):
			if err != nil {
				e.drop(b.count, "refused")
				e.failure(err)
			}
			if pause = 0; b.sent != nil {
				b.sent()
			}
			continue
		case e.spool == nil:
			e.drop(b.count, "export_failed")
		case b.sent == nil:
			e.keep(b)
		}
		e.failure(err)
		if pause = nextPause(pause, err); !e.rest(ctx, pause) {
			return
		}
	}
}

// nextBatch waits for work: what is in memory, else the oldest of the spool. ok is
// false when there will be none.
func (e *exporter) nextBatch(ctx context.Context) (b batch, ok bool) {
	for ctx.Err() == nil {
		select {
		case b = <-e.outbox:
			return b, true
		default:
		}
		if b, ok = e.fromSpool(); ok {
			return b, true
		}
		select {
		case <-ctx.Done():
		case b = <-e.outbox:
			return b, true
		case <-e.kept:
		case <-e.last:
			if len(e.outbox) == 0 && (e.spool == nil || e.spool.size(e.of) == 0) {
				return b, false
			}
		}
	}
	return b, false
}

func (e *exporter) fromSpool() (b batch, ok bool) {
	if e.spool == nil {
		return b, false
	}
	b, damaged, ok := e.spool.oldest(e.of)
	if damaged > 0 {
		e.drop(damaged, "spool_damaged")
	}
	return b, ok
}

// export makes one attempt.
func (e *exporter) export(ctx context.Context, b batch) error {
	ctx, cancel := context.WithTimeout(ctx, e.settings.timeout)
	defer cancel()
	begin := time.Now()
	answer, err := e.wire.send(ctx, b.raw)
	if err != nil {
		e.metrics.observe(exportDuration, time.Since(begin), nil, string(e.of), "error")
		return fmt.Errorf("export %d %s: %w", b.count, e.of, err)
	}
	e.metrics.observe(exportDuration, time.Since(begin), nil, string(e.of), "ok")
	refused, why := rejected(answer)
	refused = min(refused, b.count)
	e.metrics.add(exported, float64(b.count-refused), string(e.of))
	if refused > 0 {
		e.drop(refused, "refused")
		e.failure(fmt.Errorf("export %d %s: the collector refuses %d of them: %q", b.count, e.of, refused, clip(why, maxErrorText)))
	}
	return nil
}

// nextPause doubles, with chance so that the nodes of a cluster do not come back all
// at once, and follows what the collector asked for.
func nextPause(pause time.Duration, err error) time.Duration {
	pause = max(firstPause, min(2*pause, maxPause))
	var wish later
	if errors.As(err, &wish) {
		return max(pause, min(wish.wait, maxWish))
	}
	return pause*3/4 + rand.N(pause/2)
}

// rest waits for the next attempt. With a spool, batches that come meanwhile go to
// disk, and the end of collecting ends delivery: what is left is safe. Without one,
// they wait in memory, and have one attempt each at the end.
func (e *exporter) rest(ctx context.Context, pause time.Duration) (goOn bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	arriving := e.outbox
	if e.spool == nil {
		arriving = nil
	}
	for {
		select {
		case b := <-arriving:
			e.keep(b)
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		case <-e.last:
			return e.spool == nil
		}
	}
}

// clearOutbox puts away what delivery did not come to, after its end.
func (e *exporter) clearOutbox() {
	for {
		select {
		case b := <-e.outbox:
			if e.spool != nil {
				e.keep(b)
			} else {
				e.drop(b.count, "shutdown")
			}
		default:
			return
		}
	}
}
