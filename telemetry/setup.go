package telemetry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Telemetry is the daemon's one instance of this room. It is safe for concurrent use.
type Telemetry struct {
	provider *sdktrace.TracerProvider
	resource *resource.Resource
	service  string
	version  string
	metrics  *metrics
	store    *store
	live     *live
	ended    *endedSpans
	logs     *logSink
	account  *account
	memory   *memory
	handlers handlers

	// The way to the collector, nil for what is not exported.
	spans, records, points *exporter
	reader                 *metricReader
	spool                  *spool

	mu         sync.Mutex // guards containers
	containers func(io.Writer) error
}

// ownSpanSize is what a span of our own takes in a batch, in bytes, roughly.
const ownSpanSize = 1 << 10

// shutdownBound is how long Shutdown takes at most when its context has no bound.
const shutdownBound = 5 * time.Second

// Setup starts the room. Nothing process-wide is changed; see InstallGlobals.
// Shutdown must be called.
func Setup(ctx context.Context, c Config) (*Telemetry, error) {
	t := &Telemetry{metrics: newMetrics(), store: newStore(c.TraceBytes), account: newAccount()}
	var err error
	if t.logs, err = newLogSink(c); err != nil {
		return nil, err
	}
	e := &environment{}
	sampler := e.readSampler(c)
	if t.resource, err = newResource(ctx, c); err != nil {
		e.note("%s", err) // what could be found out is used
	}
	t.version, _ = build(c)
	t.service = textOf(t.resource.Set(), semconv.ServiceNameKey)
	t.live = newLive(t.service)
	t.ended = newEndedSpans(t.takeOwn)
	if err := t.startExport(ctx, c, e); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(t.resource),
		sdktrace.WithSampler(nodeSampler{sampler, c.ExportReads}),
		sdktrace.WithSpanProcessor(processor{t, c.SpanStarted}),
	)
	if t.memory, err = openMemory(t, c); err != nil {
		e.notes = append(e.notes, err.Error()) // a node without a history is better than none
	}
	t.registerSelf(c)
	for _, n := range e.notes {
		t.Logger().WarnContext(ctx, "telemetry setting passed over", "cause", n)
	}
	return t, nil
}

// startExport opens the way to the collector for each signal that has one.
func (t *Telemetry) startExport(ctx context.Context, c Config, e *environment) error {
	version, _ := build(c)
	report := t.logs.occasionally("telemetry export is failing", time.Minute)
	for _, way := range []struct {
		of       signal
		to       **exporter
		assemble func([]item) (proto.Message, int)
	}{
		{traces, &t.spans, assembleTraces},
		{logs, &t.records, assembleLogs(protoResource(t.resource), version)},
		{metered, &t.points, assembleMetrics},
	} {
		settings, enabled, err := e.readExportSettings(c, way.of)
		if err != nil {
			return err
		}
		if !enabled {
			continue
		}
		if t.spool == nil && c.SpoolDir != "" {
			if t.spool, err = openSpool(c.SpoolDir, c.SpoolBytes); err != nil {
				return err
			}
		}
		wire, err := newTransport(settings, way.of, "OTel-OTLP-Exporter-Vitrine/"+version)
		if err != nil {
			return err
		}
		*way.to = startExporter(ctx, way.of, settings, way.assemble, wire, t.metrics, t.spool, report)
		if way.of == metered {
			t.reader = startMetricReader(t, settings, version)
		}
	}
	t.logs.exported.Store(t.records)
	return nil
}

// Shutdown sends what waits for export and stops, within ctx or, when that has no
// deadline, five seconds. Spans that end afterwards still reach the node's store.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, shutdownBound)
		defer cancel()
	}
	if t.ended != nil {
		t.ended.close()
	}
	t.memory.close()
	t.reader.Close(ctx)
	// All at once: a collector that is gone takes its time from each.
	var parts sync.WaitGroup
	failed := make([]error, 3)
	for n, e := range []*exporter{t.spans, t.records, t.points} {
		parts.Go(func() { failed[n] = e.Close(ctx) })
	}
	parts.Wait()
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("stop telemetry export: %w", err)
	}
	return nil
}

// Context returns ctx with a span context whose tracer is ours: work that no call
// asked for (recovery, garbage collection, exits) begins its traces with it. Within
// a call ctx has a tracer already.
func (t *Telemetry) Context(ctx context.Context) context.Context {
	return trace.ContextWithSpan(ctx, rootless{trace.SpanFromContext(context.Background()), t.provider})
}

// rootless is a span that records nothing and leads to our tracer.
type rootless struct {
	trace.Span
	provider trace.TracerProvider
}

// TracerProvider is what Start asks for.
func (r rootless) TracerProvider() trace.TracerProvider { return r.provider }

// TracerProvider is for libraries that make spans of their own.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.provider }

// processor feeds the node's store, the metrics and the export queue with the
// daemon's own spans.
type processor struct {
	*Telemetry
	started func(name string) error // Config.SpanStarted
}

// OnStart makes the span visible as unfinished.
func (p processor) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	if !p.live.begin(s) {
		p.metrics.add(dropped, 1, "traces", "too_many_live")
	}
	p.memory.begun(s)
	p.handlers.begun(s)
	if p.started != nil {
		if err := p.started(s.Name()); err != nil {
			s.SetStatus(codes.Error, err.Error())
		}
	}
}

// OnEnd takes the span over. It does not block.
func (p processor) OnEnd(s sdktrace.ReadOnlySpan) { p.ended.put(s) }

// takeOwn feeds store, metrics and export with a span of the daemon's own.
func (t *Telemetry) takeOwn(s sdktrace.ReadOnlySpan) {
	r := recordSDK(s, t.service)
	t.metrics.add(spansEnded, 1, "daemon")
	t.take(&r)
	t.live.end(s.SpanContext().SpanID()) // after it is in the store: never in neither
	if r.sampled {
		t.spans.put(item{what: s, count: 1, size: ownSpanSize})
	}
}

// Shutdown has nothing to do: Telemetry.Shutdown stops the parts in order.
func (processor) Shutdown(context.Context) error { return nil }

// ForceFlush has nothing to do.
func (processor) ForceFlush(context.Context) error { return nil }

// take feeds store and metrics. It returns false for a span that was taken before.
func (t *Telemetry) take(r *record) (fresh bool) {
	switch t.store.add(r) {
	case known:
		return false
	case tooLong:
		t.metrics.add(dropped, 1, "traces", "trace_too_long")
	}
	r.handler = t.handlers.of(r)
	t.metrics.span(r, r.sampled || t.spans == nil)
	t.memory.ended(r)
	return true
}

// newResource describes this process and node. With an error it is still usable.
func newResource(ctx context.Context, c Config) (*resource.Resource, error) {
	version, _ := build(c)
	attrs := []attribute.KeyValue{
		semconv.ServiceName(cmp.Or(c.ServiceName, "vitrined")), semconv.ServiceNamespace("vitrine"),
		semconv.ServiceVersion(version), semconv.ServiceInstanceID(rand.Text()),
	}
	if node := cmp.Or(c.NodeName, os.Getenv("NODE_NAME")); node != "" {
		attrs = append(attrs, semconv.K8SNodeName(node))
	}
	r, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithHostID(), resource.WithOSType(), resource.WithProcessPID(),
		resource.WithAttributes(attrs...),
		resource.WithFromEnv(), // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win
	)
	if r == nil {
		r = resource.Empty()
	}
	if err != nil {
		err = fmt.Errorf("describe this process: %w", err)
	}
	return r, err
}

// build is the version and the revision of this binary.
func build(c Config) (version, revision string) {
	version, revision = c.Version, c.Revision
	if info, ok := debug.ReadBuildInfo(); ok {
		version = cmp.Or(version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = cmp.Or(revision, s.Value)
			}
		}
	}
	return cmp.Or(version, "(devel)"), revision
}

// registerSelf provides what this room knows about itself.
func (t *Telemetry) registerSelf(c Config) {
	m := t.metrics
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	version, revision := build(c)
	m.provide(buildInfo, func(emit func(float64, ...string)) { emit(1, version, revision, runtime.Version()) })
	m.provide(phaseInflight, func(emit func(float64, ...string)) {
		t.live.each(func(name string, _ time.Duration) { emit(1, name) })
	})
	m.provide(phaseInflightAge, func(emit func(float64, ...string)) {
		t.live.each(func(name string, age time.Duration) { emit(age.Seconds(), name) })
	})
	for _, i := range Instruments {
		if i.Live {
			m.provide(i, func(emit func(float64, ...string)) {
				emit(0)
				t.live.each(func(name string, _ time.Duration) {
					if name == i.Spans[0].Span {
						emit(1)
					}
				})
			})
		}
	}
	exporters := map[signal]*exporter{traces: t.spans, logs: t.records, metered: t.points}
	m.provide(queueLength, func(emit func(float64, ...string)) {
		for of, e := range exporters {
			emit(float64(e.waiting()), string(of))
		}
	})
	m.provide(spoolBytes, func(emit func(float64, ...string)) {
		for of := range exporters {
			bytes := int64(0)
			if t.spool != nil {
				bytes = t.spool.size(of)
			}
			emit(float64(bytes), string(of))
		}
	})
	m.provide(historyBytes, func(emit func(float64, ...string)) { emit(float64(t.memory.store().Size())) })
	m.provide(traceStoreBytes, func(emit func(float64, ...string)) {
		t.store.each(func(class string, bytes, _ int) { emit(float64(bytes), class) })
	})
	m.provide(traceStoreTraces, func(emit func(float64, ...string)) {
		t.store.each(func(class string, _, traces int) { emit(float64(traces), class) })
	})
}

// Provide registers who computes a gauge of the list at each scrape, in place of
// the one before. name is without prefix; f emits a value per combination of label
// values, in the list's order, and must not block.
func (t *Telemetry) Provide(name string, f func(emit func(value float64, labels ...string))) error {
	for _, i := range Instruments {
		if i.Name == name && (i.Kind == Gauge && i != requestsInflight || i.Elsewhere) {
			t.metrics.provide(i, f)
			return nil
		}
	}
	return fmt.Errorf("%w: no gauge or counter %q to be provided in the list of instruments", pod.ErrInvalid, name)
}

func textOf(set *attribute.Set, key attribute.Key) string {
	v, _ := set.Value(key)
	return v.AsString()
}

// Logger is the daemon's log.
func (t *Telemetry) Logger() *slog.Logger { return slog.New(t.logs.handler) }
