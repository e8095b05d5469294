package telemetry

import (
	"encoding/hex"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// record is one ended span in the form that the node's store and the metrics share,
// whoever reported it.
type record struct {
	waterfall.Span
	trace trace.TraceID
	// sampled decides about export and exemplars.
	sampled bool
	// received from another process of this node.
	received bool
	// handler is the runtime handler of the pod that the span is about, for metrics.
	handler string
}

// recordSDK turns a span of this process into a record.
func recordSDK(s sdktrace.ReadOnlySpan, service string) record {
	sc, parent := s.SpanContext(), s.Parent()
	r := record{trace: sc.TraceID(), sampled: sc.IsSampled()}
	r.Span = waterfall.Span{
		ID: sc.SpanID().String(), Name: s.Name(), Service: service,
		Start: s.StartTime().UnixNano(), End: s.EndTime().UnixNano(),
		Error: s.Status().Code == codes.Error, Status: s.Status().Description,
		Attributes: attributeMap(s.Attributes()),
	}
	if parent.IsValid() {
		r.ParentID = parent.SpanID().String()
	}
	if kind := s.SpanKind(); kind != trace.SpanKindInternal && kind != trace.SpanKindUnspecified {
		r.Kind = kind.String()
	}
	for _, e := range s.Events() {
		r.Events = append(r.Events, waterfall.Event{Name: e.Name, Time: e.Time.UnixNano(), Attributes: attributeMap(e.Attributes)})
	}
	for _, l := range s.Links() {
		kind, _ := attributeMap(l.Attributes)[string(KeyLinkKind)].(string)
		r.Links = append(r.Links, waterfall.Link{TraceID: l.SpanContext.TraceID().String(), SpanID: l.SpanContext.SpanID().String(), Kind: kind})
	}
	return r
}

func attributeMap(attrs []attribute.KeyValue) map[string]any {
	if len(attrs) == 0 {
		return nil
	}
	m := make(map[string]any, len(attrs))
	for _, a := range attrs {
		if v := a.Value; v.Type() != attribute.FLOAT64 || finite(v.AsFloat64()) {
			m[string(a.Key)] = v.AsInterface()
		}
	}
	return m
}

// flagsKnown is set in Span.flags by reporters that fill in the field at all
// (SpanFlags.CONTEXT_HAS_IS_REMOTE_MASK of the OTLP definition).
const flagsKnown = uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)

// recordProto turns a received span into a record; ok is false for one without
// usable ids or time, which is refused. known says whether the reporter told if the
// span is sampled.
func recordProto(s *tracepb.Span, resource map[string]any) (r record, known, ok bool) {
	if len(s.GetTraceId()) != 16 || len(s.GetSpanId()) != 8 || s.GetStartTimeUnixNano() == 0 || s.GetName() == "" {
		return r, false, false
	}
	copy(r.trace[:], s.GetTraceId())
	if !r.trace.IsValid() || s.GetStartTimeUnixNano() > 1<<63-1 || s.GetEndTimeUnixNano() > 1<<63-1 {
		return r, false, false
	}
	r.Span = waterfall.Span{
		ID: hex.EncodeToString(s.GetSpanId()), Name: clip(s.GetName(), 256),
		Start: int64(s.GetStartTimeUnixNano()), End: int64(max(s.GetEndTimeUnixNano(), s.GetStartTimeUnixNano())),
		Error:  s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		Status: clip(s.GetStatus().GetMessage(), maxText),
	}
	if len(s.GetParentSpanId()) == 8 {
		r.ParentID = hex.EncodeToString(s.GetParentSpanId())
	}
	if kind := s.GetKind(); kind >= tracepb.Span_SPAN_KIND_SERVER && kind <= tracepb.Span_SPAN_KIND_CONSUMER {
		r.Kind = trace.SpanKind(kind).String()
	}
	r.Service, _ = resource["service.name"].(string)
	r.Attributes = protoMap(s.GetAttributes())
	for _, key := range identityKeys {
		if v, found := resource[key]; found && r.Attributes[key] == nil {
			if r.Attributes == nil {
				r.Attributes = map[string]any{}
			}
			r.Attributes[key] = v
		}
	}
	for _, e := range s.GetEvents()[:min(len(s.GetEvents()), maxItems)] {
		r.Events = append(r.Events, waterfall.Event{Name: clip(e.GetName(), 256), Time: int64(e.GetTimeUnixNano() &^ (1 << 63)), Attributes: protoMap(e.GetAttributes())})
	}
	for _, l := range s.GetLinks()[:min(len(s.GetLinks()), maxItems)] {
		kind, _ := protoMap(l.GetAttributes())[string(KeyLinkKind)].(string)
		r.Links = append(r.Links, waterfall.Link{TraceID: hex.EncodeToString(l.GetTraceId()), SpanID: hex.EncodeToString(l.GetSpanId()), Kind: kind})
	}
	r.sampled, r.received = s.GetFlags()&1 != 0, true
	return r, s.GetFlags()&flagsKnown != 0, true
}

const (
	// maxItems bounds attributes, events and links of one received span.
	maxItems = 128
	// maxText bounds one received string, in bytes.
	maxText = 16 << 10
)

func protoMap(attrs []*commonpb.KeyValue) map[string]any {
	if len(attrs) == 0 {
		return nil
	}
	m := make(map[string]any, min(len(attrs), maxItems))
	for _, a := range attrs[:min(len(attrs), maxItems)] {
		if v := protoValue(a.GetValue(), 0); v != nil {
			m[clip(a.GetKey(), 256)] = v
		}
	}
	return m
}

// protoValue returns nil for what has no use here: maps, bytes, deep nesting.
func protoValue(v *commonpb.AnyValue, depth int) any {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return clip(v.StringValue, maxText)
	case *commonpb.AnyValue_BoolValue:
		return v.BoolValue
	case *commonpb.AnyValue_IntValue:
		return v.IntValue
	case *commonpb.AnyValue_DoubleValue:
		if !finite(v.DoubleValue) {
			return nil
		}
		return v.DoubleValue
	case *commonpb.AnyValue_ArrayValue:
		if depth > 0 {
			return nil
		}
		var list []any
		for _, item := range v.ArrayValue.GetValues()[:min(len(v.ArrayValue.GetValues()), maxItems)] {
			if value := protoValue(item, depth+1); value != nil {
				list = append(list, value)
			}
		}
		return list
	}
	return nil
}

// finite is false for NaN and infinities, which JSON does not know.
func finite(f float64) bool { return f-f == 0 }

// clip bounds a text from outside, at a rune's border.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
