package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Span is one timed step. The zero value and nil are spans that record nothing.
type Span struct{ span trace.Span }

// Start opens a span named room.verb as a child of the one in ctx, with the tracer
// of that one; without a span in ctx it records nothing. End it exactly once:
//
//	ctx, span := telemetry.Start(ctx, "network.attach", ...)
//	defer span.End(&err)
func Start(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, *Span) {
	return StartAt(ctx, time.Now(), name, attrs...)
}

// StartAt is Start for a step that began a moment ago: what it costs to describe and
// to open the span is then part of the step's time.
func StartAt(ctx context.Context, at time.Time, name string, attrs ...attribute.KeyValue) (context.Context, *Span) {
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer(scope)
	ctx, span := tracer.Start(ctx, name, trace.WithTimestamp(at), trace.WithAttributes(attrs...))
	return ctx, &Span{span}
}

// StartWithParent is Start for the first child of the span in ctx: it begins when that did.
func StartWithParent(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, *Span) {
	if parent, ok := trace.SpanFromContext(ctx).(interface{ StartTime() time.Time }); ok {
		return StartAt(ctx, parent.StartTime(), name, attrs...)
	}
	return Start(ctx, name, attrs...)
}

// Past records a step that is over: somebody else saw it begin and end.
func Past(ctx context.Context, name string, from, to time.Time, attrs ...attribute.KeyValue) {
	_, s := StartAt(ctx, from, name, attrs...)
	s.span.End(trace.WithTimestamp(to))
}

// Set adds attributes to the span.
func (s *Span) Set(attrs ...attribute.KeyValue) {
	if s != nil && s.span != nil {
		s.span.SetAttributes(attrs...)
	}
}

// Event adds a named moment to the span.
func (s *Span) Event(name string, attrs ...attribute.KeyValue) {
	if s != nil && s.span != nil {
		s.span.AddEvent(name, trace.WithAttributes(attrs...))
	}
}

// Fault is the error that a test wants this step to fail with, nil otherwise. A step
// that asks fails before it has done anything; any other fails at End, when it has done
// all, which is the most that its caller may have to undo.
func (s *Span) Fault() error {
	if s == nil || s.span == nil {
		return nil
	}
	if span, ok := s.span.(sdktrace.ReadOnlySpan); ok { // an error before the end: Config.SpanStarted set it
		if status := span.Status(); status.Code == codes.Error {
			return errors.New(status.Description)
		}
	}
	return nil
}

// End closes the span. A non-nil *err becomes its status and an exception event;
// err itself may be nil for a step that cannot fail.
func (s *Span) End(err *error) {
	if s == nil || s.span == nil {
		return
	}
	if err != nil && *err == nil {
		*err = s.Fault()
	}
	if err != nil && *err != nil {
		s.span.RecordError(*err)
		s.span.SetStatus(codes.Error, (*err).Error())
		switch class := classOf(*err); {
		case errors.Is(*err, context.Canceled), errors.Is(*err, context.DeadlineExceeded), !s.hasClass():
			s.span.SetAttributes(KeyErrorType.String(class))
		}
	}
	s.span.End()
}

// classes are what every room's errors have in common; a room sets classes of its
// own on its span before it ends.
var classes = []struct {
	err  error
	word string
}{
	{context.Canceled, "cancel"}, {context.DeadlineExceeded, "timeout"},
	{pod.ErrNotFound, "notfound"}, {pod.ErrExists, "exists"}, {pod.ErrInvalid, "invalid"}, {pod.ErrState, "state"},
	{pod.ErrUnsupported, "unsupported"}, {pod.ErrUnavailable, "unavailable"}, {pod.ErrDeadline, "timeout"},
	{pod.ErrExhausted, "exhausted"}, {pod.ErrDenied, "denied"},
}

// classOf is a failure's class; _OTHER is what the conventions have for the rest.
func classOf(err error) string {
	for _, c := range classes {
		if errors.Is(err, c.err) {
			return c.word
		}
	}
	return "_OTHER"
}

// hasClass says whether the room has set one. What the context says wins over it.
func (s *Span) hasClass() bool {
	readable, ok := s.span.(sdktrace.ReadOnlySpan)
	return ok && slices.ContainsFunc(readable.Attributes(), func(a attribute.KeyValue) bool { return a.Key == KeyErrorType })
}

// Traceparent returns the W3C trace context of ctx, empty without one.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// WithTraceparent returns ctx under the remote span that a W3C trace context names,
// with the tracer that ctx has: work that follows from an earlier request joins that
// request's trace. An empty or malformed one changes nothing.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	remote := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(
		context.Background(), propagation.MapCarrier{"traceparent": traceparent}))
	if !remote.IsValid() {
		return ctx
	}
	provider := trace.SpanFromContext(ctx).TracerProvider()
	ctx = trace.ContextWithRemoteSpanContext(ctx, remote)
	return trace.ContextWithSpan(ctx, rootless{trace.SpanFromContext(ctx), provider})
}
