package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// queue brings spans to the collector: the daemon's own and those received from
// monitors, through one client, in batches. Nothing ever waits for it: what does
// not fit is dropped and counted.
type queue struct {
	client   otlptrace.Client
	settings exportSettings
	metrics  *metrics
	spool    *spool // nil: none
	failure  func(error)

	items  chan item
	stop   chan struct{}
	closed sync.Once
	done   sync.WaitGroup
	// abort ends an export that is going on when Close runs out of time.
	abort context.CancelFunc
}

// item is one span of our own, or one bundle that was received.
type item struct {
	own      sdktrace.ReadOnlySpan
	received *tracepb.ResourceSpans
}

// startQueue begins exporting; Close ends it. failure hears of batches that did not
// arrive, and must not block.
func startQueue(ctx context.Context, client otlptrace.Client, s exportSettings, m *metrics, sp *spool, failure func(error)) (*queue, error) {
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("start OTLP exporter: %w", err)
	}
	q := &queue{client: client, settings: s, metrics: m, spool: sp, failure: failure,
		items: make(chan item, s.queue), stop: make(chan struct{})}
	// The exporter outlives the context of its start; Close ends it.
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	q.abort = abort
	q.done.Go(func() { q.run(work) })
	return q, nil
}

// put never blocks.
func (q *queue) put(i item) {
	select {
	case <-q.stop:
		q.metrics.add(dropped, float64(i.count()), "traces", "shutdown")
	case q.items <- i:
	default:
		q.metrics.add(dropped, float64(i.count()), "traces", "queue_full")
	}
}

func (i item) count() int {
	if i.received == nil {
		return 1
	}
	n := 0
	for _, s := range i.received.GetScopeSpans() {
		n += len(s.GetSpans())
	}
	return n
}

func (q *queue) run(ctx context.Context) {
	timer := time.NewTicker(q.settings.delay)
	defer timer.Stop()
	var batch []item
	for {
		select {
		case i := <-q.items:
			batch = append(batch, i)
			if len(batch) < q.settings.batch {
				continue
			}
		case <-timer.C:
		case <-q.stop:
			for {
				select {
				case i := <-q.items:
					batch = append(batch, i)
					if len(batch) < q.settings.batch {
						continue
					}
				default:
				}
				if len(batch) == 0 {
					return
				}
				q.send(ctx, batch)
				batch = nil
			}
		}
		if len(batch) > 0 {
			q.send(ctx, batch)
			clear(batch)
			batch = batch[:0]
		} else if q.spool != nil {
			q.replay(ctx)
		}
	}
}

// send exports one batch, and after a success what the spool has kept.
func (q *queue) send(ctx context.Context, batch []item) {
	spans, count := translate(ctx, batch)
	if err := q.upload(ctx, spans, count); err != nil {
		q.failure(err)
		switch {
		case q.spool == nil:
			q.metrics.add(dropped, float64(count), "traces", "export_failed")
		default:
			if lost, err := q.spool.put(spans, count); err != nil || lost > 0 {
				q.metrics.add(dropped, float64(lost), "traces", "spool_full")
			}
		}
		return
	}
	if q.spool != nil {
		q.replay(ctx)
	}
}

// replay sends kept batches, oldest first, until one fails or the daemon stops.
func (q *queue) replay(ctx context.Context) {
	for {
		select {
		case <-q.stop:
			return
		default:
		}
		spans, count, done := q.spool.oldest()
		if spans == nil {
			return
		}
		if err := q.upload(ctx, spans, count); err != nil {
			return
		}
		done()
	}
}

func (q *queue) upload(ctx context.Context, spans []*tracepb.ResourceSpans, count int) error {
	ctx, cancel := context.WithTimeout(ctx, q.settings.timeout)
	defer cancel()
	begin := time.Now()
	err := q.client.UploadTraces(ctx, spans)
	if err != nil {
		q.metrics.observe(exportDuration, time.Since(begin), nil, "error")
		return fmt.Errorf("export %d spans: %w", count, err)
	}
	q.metrics.observe(exportDuration, time.Since(begin), nil, "ok")
	q.metrics.add(exported, float64(count), "traces")
	return nil
}

// Close sends what waits and stops, within the bound of ctx; what could not be sent
// then is dropped, or kept where there is a spool.
func (q *queue) Close(ctx context.Context) error {
	var err error
	q.closed.Do(func() {
		close(q.stop)
		finished := make(chan struct{})
		go func() { q.done.Wait(); close(finished) }()
		select {
		case <-finished:
		case <-ctx.Done():
			q.abort()
			<-finished
		}
		q.abort()
		err = q.client.Stop(ctx)
	})
	return err
}

// translate turns a batch into protobuf. Own spans go through the OTLP exporter's
// translation, with a client that only keeps what it is given.
func translate(ctx context.Context, batch []item) (spans []*tracepb.ResourceSpans, count int) {
	var own []sdktrace.ReadOnlySpan
	for _, i := range batch {
		count += i.count()
		if i.received != nil {
			spans = append(spans, i.received)
		} else {
			own = append(own, i.own)
		}
	}
	var k keeper
	// It cannot fail: the keeper takes everything.
	_ = otlptrace.NewUnstarted(&k).ExportSpans(ctx, own)
	return append(spans, k.spans...), count
}

// keeper is an otlptrace.Client that keeps what it should upload.
type keeper struct{ spans []*tracepb.ResourceSpans }

func (*keeper) Start(context.Context) error { return nil }
func (*keeper) Stop(context.Context) error  { return nil }
func (k *keeper) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	k.spans = append(k.spans, spans...)
	return nil
}
