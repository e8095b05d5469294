package telemetry

import (
	"context"
	"fmt"
	"runtime/debug"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// ServerOptions make a gRPC server tell about its calls: one server span each, in
// the caller's trace when it sends a W3C traceparent; duration and number in
// flight; a panic becomes the code Internal, an event of the span, and a line of
// the log, and the server goes on. Put them before other interceptors.
func (t *Telemetry) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(t.unary),
		grpc.ChainStreamInterceptor(t.stream),
	}
}

func (t *Telemetry) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	err = t.call(ctx, info.FullMethod, func(ctx context.Context) (err error) {
		answer, err = handler(ctx, req)
		return err
	})
	return answer, err
}

func (t *Telemetry) stream(server any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return t.call(s.Context(), info.FullMethod, func(ctx context.Context) error {
		return handler(server, tracedStream{s, ctx})
	})
}

// tracedStream has the span's context.
type tracedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is that of the span.
func (s tracedStream) Context() context.Context { return s.ctx }

// call runs one RPC within its span.
func (t *Telemetry) call(ctx context.Context, fullMethod string, run func(context.Context) error) (err error) {
	name := fullMethod
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	short := waterfall.ShortName(name)
	inflight := t.metrics.families[requestsInflight]
	gauge := inflight.gauge.WithLabelValues(inflight.bounded([]string{short})...)
	gauge.Inc()
	defer gauge.Dec()

	ctx = propagation.TraceContext{}.Extract(ctx, incoming(ctx))
	ctx, span := t.provider.Tracer(scope).Start(ctx, name,
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.RPCSystemNameGRPC, semconv.RPCMethod(name)))
	defer func() {
		if cause := recover(); cause != nil {
			err = t.panicked(ctx, span, short, cause)
		}
		endCall(span, err)
	}()
	return run(ctx)
}

// scope names who makes the spans.
const scope = "github.com/vitrine-runtime/vitrine"

// panicked turns a bug into an answer, and tells of it where it will be seen.
func (t *Telemetry) panicked(ctx context.Context, span trace.Span, method string, cause any) error {
	t.metrics.add(panics, 1, method)
	stack := clip(string(debug.Stack()), maxText)
	span.AddEvent("exception", trace.WithAttributes(
		semconv.ExceptionType("panic"), semconv.ExceptionMessage(clip(fmt.Sprint(cause), 1024)), semconv.ExceptionStacktrace(stack)))
	t.Logger().ErrorContext(ctx, "panic in a call", "method", method, "cause", clip(fmt.Sprint(cause), 1024), "stack", stack)
	return status.Errorf(codes.Internal, "bug in vitrined: %s panicked: %s", method, clip(fmt.Sprint(cause), 256))
}

// endCall sets code and status as semconv says: a caller's mistake is no error of
// the server's span, but its message is kept.
func endCall(span trace.Span, err error) {
	s, told := status.FromError(err)
	if !told { // as the server itself will answer
		s = status.FromContextError(err)
	}
	attrs := []attribute.KeyValue{semconv.RPCResponseStatusCode(codeNames[s.Code()])}
	if err != nil {
		attrs = append(attrs, semconv.ExceptionMessage(clip(s.Message(), 1024)))
	}
	switch s.Code() {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		span.SetStatus(otelcodes.Error, clip(s.Message(), 1024))
		attrs = append(attrs, KeyErrorType.String(codeNames[s.Code()]))
	}
	span.SetAttributes(attrs...)
	span.End()
}

// codeNames are the names of the gRPC specification, which semconv uses.
var codeNames = map[codes.Code]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

// incoming reads a call's metadata as a propagator wants it.
func incoming(ctx context.Context) propagation.TextMapCarrier {
	md, _ := metadata.FromIncomingContext(ctx)
	return mdCarrier(md)
}

type mdCarrier metadata.MD

// Get returns the first value, empty for none.
func (c mdCarrier) Get(key string) string {
	if values := metadata.MD(c).Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set is not used: a server only reads.
func (c mdCarrier) Set(string, string) {}

// Keys lists the names.
func (c mdCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
