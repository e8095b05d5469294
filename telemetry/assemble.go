package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
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
)

// assembleTraces takes sdktrace.ReadOnlySpan and *tracepb.ResourceSpans.
func assembleTraces(items []item) (proto.Message, int) {
	request, count := &collectortrace.ExportTraceServiceRequest{}, 0
	var own []sdktrace.ReadOnlySpan
	for _, i := range items {
		count += i.count
		switch what := i.what.(type) {
		case sdktrace.ReadOnlySpan:
			own = append(own, what)
		case *tracepb.ResourceSpans:
			request.ResourceSpans = append(request.ResourceSpans, what)
		}
	}
	var k keeper
	// It cannot fail: the keeper takes everything.
	_ = otlptrace.NewUnstarted(&k).ExportSpans(context.Background(), own)
	request.ResourceSpans = append(request.ResourceSpans, k.spans...)
	return request, count
}

// keeper is an otlptrace.Client that keeps what it should upload: our own spans go
// through the OTLP exporter's translation.
type keeper struct{ spans []*tracepb.ResourceSpans }

func (*keeper) Start(context.Context) error { return nil }
func (*keeper) Stop(context.Context) error  { return nil }
func (k *keeper) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	k.spans = append(k.spans, spans...)
	return nil
}

// assembleLogs takes *logspb.LogRecord of the daemon itself and *logspb.ResourceLogs.
func assembleLogs(self *resourcepb.Resource, version string) func([]item) (proto.Message, int) {
	return func(items []item) (proto.Message, int) {
		request, count := &collectorlogs.ExportLogsServiceRequest{}, 0
		var own []*logspb.LogRecord
		for _, i := range items {
			count += i.count
			switch what := i.what.(type) {
			case *logspb.LogRecord:
				own = append(own, what)
			case *logspb.ResourceLogs:
				request.ResourceLogs = append(request.ResourceLogs, what)
			}
		}
		if len(own) > 0 {
			request.ResourceLogs = append(request.ResourceLogs, &logspb.ResourceLogs{Resource: self, SchemaUrl: semconv.SchemaURL,
				ScopeLogs: []*logspb.ScopeLogs{{Scope: instrumentation(version), LogRecords: own}}})
		}
		return request, count
	}
}

// assembleMetrics takes *metricspb.ResourceMetrics.
func assembleMetrics(items []item) (proto.Message, int) {
	request, count := &collectormetrics.ExportMetricsServiceRequest{}, 0
	for _, i := range items {
		count += i.count
		request.ResourceMetrics = append(request.ResourceMetrics, i.what.(*metricspb.ResourceMetrics))
	}
	return request, count
}

func instrumentation(version string) *commonpb.InstrumentationScope {
	return &commonpb.InstrumentationScope{Name: scope, Version: version}
}

// protoResource is this process in OTLP.
func protoResource(r *resource.Resource) *resourcepb.Resource {
	p := &resourcepb.Resource{}
	for _, a := range r.Attributes() {
		p.Attributes = append(p.Attributes, protoAttribute(string(a.Key), a.Value.AsInterface()))
	}
	return p
}

// protoAttribute encodes what slog and the SDK have as values; what it does not know
// becomes text.
func protoAttribute(key string, value any) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: anyValue(value)}
}
