package telemetry

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"strings"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/life"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

// exportLife sends the life of a container that has ended; e is its container.exited,
// f what was counted of it. It is sampled when the request that made it was. The span is
// on disk when it returns, if there is a spool.
func (t *Telemetry) exportLife(e history.Entry, f history.Figures) {
	if t.spans == nil || e.Event == nil {
		return
	}
	c := why.Container{Name: e.Container, ID: e.ContainerID, Figures: f}
	learn(&c, e.Event)
	drawn, ok := life.Of(e.Subject, c, e.Time)
	if !ok || strings.HasSuffix(c.Life.Created, "-00") {
		return
	}
	export := &tracepb.ResourceSpans{
		Resource: protoResource(t.resource), SchemaUrl: semconv.SchemaURL,
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: instrumentation(t.version), Spans: []*tracepb.Span{protoSpan(drawn.ID, drawn.Spans[0])}}},
	}
	t.spans.putAway(item{what: export, count: 1, size: proto.Size(export)})
}

// Lives are the lives of the containers that a query means, those that go on included,
// in the order of their start; each is a trace of one span. The query is that of
// APIHandler, and may be the id of such a trace. Nothing known: pod.ErrNotFound.
func (t *Telemetry) Lives(ctx context.Context, query string, node Node) ([]*Trace, error) {
	e, err := t.Evidence(ctx, query, node)
	if err != nil {
		return nil, err
	}
	id := ""
	if len(query) == 2*len(trace.TraceID{}) && isID(query) {
		id = query
	}
	return LivesOf(e, id), nil
}

// LivesOf are the lives in what is known of a pod; id is that of the only trace that is
// wanted, empty for all.
func LivesOf(e why.Evidence, id string) (lives []*Trace) {
	subject := history.Subject{Namespace: e.Namespace, Pod: e.Name, UID: e.UID}
	for _, c := range e.Containers {
		if e.Container != "" && c.Name != e.Container {
			continue
		}
		if drawn, ok := life.Of(subject, c, e.Now); ok && (id == "" || drawn.ID == id) {
			lives = append(lives, drawn)
		}
	}
	slices.SortStableFunc(lives, func(a, b *Trace) int { return cmp.Compare(a.Spans[0].Start, b.Spans[0].Start) })
	return lives
}

// protoSpan is a span that was drawn here in OTLP; its trace is sampled.
func protoSpan(trace string, s waterfall.Span) *tracepb.Span {
	id := func(digits string) []byte {
		raw, err := hex.DecodeString(digits)
		if err != nil {
			return nil // one that a collector refuses; ids are made of digits here
		}
		return raw
	}
	p := &tracepb.Span{
		TraceId: id(trace), SpanId: id(s.ID), ParentSpanId: id(s.ParentID), Name: s.Name, Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: uint64(s.Start), EndTimeUnixNano: uint64(s.End), Flags: flagsKnown | 1, Attributes: protoAttributes(s.Attributes),
	}
	if s.Error {
		p.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: clip(s.Status, maxText)}
	}
	for _, e := range s.Events {
		p.Events = append(p.Events, &tracepb.Span_Event{Name: e.Name, TimeUnixNano: uint64(e.Time), Attributes: protoAttributes(e.Attributes)})
	}
	for _, l := range s.Links {
		link := &tracepb.Span_Link{TraceId: id(l.TraceID), SpanId: id(l.SpanID)}
		if l.Kind != "" {
			link.Attributes = protoAttributes(map[string]any{string(KeyLinkKind): l.Kind})
		}
		p.Links = append(p.Links, link)
	}
	return p
}

// protoAttributes are in the order of their keys.
func protoAttributes(m map[string]any) []*commonpb.KeyValue {
	all := make([]*commonpb.KeyValue, 0, len(m))
	for key, value := range m {
		all = append(all, protoAttribute(key, value))
	}
	slices.SortFunc(all, func(a, b *commonpb.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return all
}
