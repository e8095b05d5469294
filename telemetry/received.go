package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/pod"
)

// receiveTraces takes spans over: node's store, metrics, export. It returns how
// many were unusable. Spans may be late: their trace may be unknown or gone.
func (t *Telemetry) receiveTraces(m *collectortrace.ExportTraceServiceRequest) (refused int) {
	for _, rs := range m.GetResourceSpans() {
		resource := protoMap(rs.GetResource().GetAttributes())
		var bundle []*tracepb.ScopeSpans
		for _, ss := range rs.GetScopeSpans() {
			var export []*tracepb.Span
			for _, s := range ss.GetSpans() {
				r, known, ok := recordProto(s, resource)
				if !ok {
					refused++
					continue
				}
				if !known { // the reporter does not fill in flags: do as the trace does
					r.sampled = t.sampled(r.trace)
				}
				t.metrics.add(spansEnded, 1, "received")
				if t.take(&r) && r.sampled {
					export = append(export, s)
				}
			}
			if len(export) > 0 {
				bundle = append(bundle, &tracepb.ScopeSpans{Scope: ss.GetScope(), Spans: export, SchemaUrl: ss.GetSchemaUrl()})
			}
		}
		if t.spans != nil && len(bundle) > 0 {
			t.completeResource(rs.GetResource())
			export := &tracepb.ResourceSpans{Resource: rs.GetResource(), ScopeSpans: bundle, SchemaUrl: rs.GetSchemaUrl()}
			count := 0
			for _, scope := range bundle {
				count += len(scope.GetSpans())
			}
			t.spans.put(item{what: export, count: count, size: proto.Size(export)})
		}
	}
	t.metrics.add(dropped, float64(refused), "traces", "malformed")
	return refused
}

// sampled says whether a trace is exported, as its spans here tell; a trace that
// nothing is known of is.
func (t *Telemetry) sampled(id trace.TraceID) bool {
	if sampled, seen := t.store.sampled(id); seen {
		return sampled
	}
	if sampled, seen := t.live.sampled(id); seen {
		return sampled
	}
	return true
}

// nodeKeys are what a monitor does not say about itself because the daemon knows it.
var nodeKeys = []string{
	string(semconv.HostNameKey), string(semconv.HostIDKey), string(semconv.K8SNodeNameKey),
	string(semconv.OSTypeKey), string(semconv.ServiceNamespaceKey),
}

// completeResource adds the node's names to a received resource where they are missing.
func (t *Telemetry) completeResource(r *resourcepb.Resource) {
	if r == nil {
		return
	}
	has := map[string]bool{}
	for _, a := range r.Attributes {
		has[a.GetKey()] = true
	}
	for _, a := range t.resource.Attributes() {
		if key := string(a.Key); slices.Contains(nodeKeys, key) && !has[key] {
			r.Attributes = append(r.Attributes, &commonpb.KeyValue{
				Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: a.Value.Emit()}}})
		}
	}
}

// Metrics that monitors report, cumulative, with container.id on the point or the
// resource, log.iostream and, for drops, vitrine.reason on the point.
const (
	metricLogBytes   = "vitrine.log.bytes"
	metricLogRecords = "vitrine.log.records"
	metricLogDropped = "vitrine.log.dropped"
)

// receiveMetrics adds what monitors counted to the daemon's families, and passes it
// on to the collector.
func (t *Telemetry) receiveMetrics(m *collectormetrics.ExportMetricsServiceRequest) {
	for _, rm := range m.GetResourceMetrics() {
		points := 0
		resource := protoMap(rm.GetResource().GetAttributes())
		for _, sm := range rm.GetScopeMetrics() {
			for _, metric := range sm.GetMetrics() {
				points++
				for _, p := range metric.GetSum().GetDataPoints() {
					t.receivePoint(metric.GetName(), p, resource)
				}
			}
		}
		t.completeResource(rm.GetResource())
		t.points.put(item{what: rm, count: points, size: proto.Size(rm)})
	}
}

func (t *Telemetry) receivePoint(name string, p *metricspb.NumberDataPoint, resource map[string]any) {
	attrs := protoMap(p.GetAttributes())
	text := func(key, standard string) string {
		if v, ok := attrs[key].(string); ok {
			return v
		}
		return standard
	}
	id, _ := resource[string(KeyContainerID)].(string)
	container, err := pod.ParseID(text(string(KeyContainerID), id))
	if err != nil {
		return
	}
	value := p.GetAsDouble()
	if _, whole := p.GetValue().(*metricspb.NumberDataPoint_AsInt); whole {
		value = float64(p.GetAsInt())
	}
	if !finite(value) {
		return
	}
	stream := text("log.iostream", "mixed")
	switch name {
	case metricLogBytes:
		t.metrics.add(logBytes, t.account.grow(container, stream, func(s *totals) map[string]float64 { return s.bytes }, value), stream)
	case metricLogRecords:
		t.metrics.add(logRecords, t.account.grow(container, stream, func(s *totals) map[string]float64 { return s.lines }, value), stream)
	case metricLogDropped:
		reason := text("vitrine.reason", "unknown")
		grown := t.account.grow(container, stream+" "+reason, func(s *totals) map[string]float64 { return s.dropped }, value)
		t.metrics.add(logDroppedBytes, grown, stream, reason)
	}
}

// maxLogRecords bounds what one report adds to the daemon's log.
const maxLogRecords = 64

// receiveLogs passes records on to the collector. What monitors say about themselves
// is also written to the daemon's log; output of containers (records with
// log.iostream) never is.
func (t *Telemetry) receiveLogs(m *collectorlogs.ExportLogsServiceRequest) {
	written := 0
	for _, rl := range m.GetResourceLogs() {
		records := 0
		resource := protoMap(rl.GetResource().GetAttributes())
		for _, sl := range rl.GetScopeLogs() {
			for _, r := range sl.GetLogRecords() {
				records++
				attrs := protoMap(r.GetAttributes())
				if attrs["log.iostream"] != nil {
					continue
				}
				if written++; written > maxLogRecords {
					t.metrics.add(dropped, 1, "logs", "daemon_log_full")
					continue
				}
				t.writeReceived(r, attrs, resource)
			}
		}
		t.completeResource(rl.GetResource())
		t.records.put(item{what: rl, count: records, size: proto.Size(rl)})
	}
}

func (t *Telemetry) writeReceived(r *logspb.LogRecord, attrs, resource map[string]any) {
	ctx, level := context.Background(), slog.LevelInfo
	switch n := r.GetSeverityNumber(); {
	case n >= logspb.SeverityNumber_SEVERITY_NUMBER_ERROR:
		level = slog.LevelError
	case n >= logspb.SeverityNumber_SEVERITY_NUMBER_WARN:
		level = slog.LevelWarn
	case n > 0 && n < logspb.SeverityNumber_SEVERITY_NUMBER_INFO:
		level = slog.LevelDebug
	}
	if !t.logs.handler.Enabled(ctx, level) {
		return
	}
	body, _ := protoValue(r.GetBody(), 0).(string)
	at := time.Unix(0, int64(r.GetTimeUnixNano()&^(1<<63)))
	if r.GetTimeUnixNano() == 0 {
		at = time.Now()
	}
	line := slog.NewRecord(at, level, clip(body, 1024), 0)
	for _, m := range []map[string]any{resource, attrs} {
		for key, value := range m {
			line.AddAttrs(slog.Any(key, value))
		}
	}
	_ = t.logs.local.Handle(ctx, line) // a log that cannot be written cannot be told
}
