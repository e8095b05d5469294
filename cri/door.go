package cri

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// door returns desc with every method behind the same door: the request is named on
// the server's span and validated before the handler sees it, a panic becomes an
// error of this one call, and errors become gRPC's. Because it is part of what is
// registered, no server can be built without it.
func (s *Server) door(desc grpc.ServiceDesc) *grpc.ServiceDesc {
	desc.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		desc.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, outer grpc.UnaryServerInterceptor) (any, error) {
			inner := func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
				defer s.leave(ctx, m.MethodName, &err)
				if err := admit(ctx, request); err != nil {
					return nil, err
				}
				return s.answer(ctx, request, handle)
			}
			return m.Handler(srv, ctx, decode, within(outer, inner))
		}
	}
	desc.Streams = slices.Clone(desc.Streams)
	for i, m := range desc.Streams {
		desc.Streams[i].Handler = func(srv any, stream grpc.ServerStream) (err error) {
			defer s.leave(stream.Context(), m.StreamName, &err)
			return m.Handler(srv, stream)
		}
	}
	return &desc
}

// answer handles a request: the lists that are encoded already are answered as such,
// which no method of the generated interface could return.
func (s *Server) answer(ctx context.Context, request any, handle grpc.UnaryHandler) (any, error) {
	switch r := request.(type) {
	case *runtime.ListContainersRequest:
		return s.listContainers(r)
	case *runtime.ListPodSandboxRequest:
		return s.listPodSandbox(r)
	}
	return handle(ctx, request)
}

// within makes one interceptor of two. The server's own, which opens the span and
// counts the outcome, is the outer one: it must see what the caller sees.
func within(outer, inner grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if outer == nil {
		return inner
	}
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		return outer(ctx, request, info, func(ctx context.Context, request any) (any, error) {
			return inner(ctx, request, info, handle)
		})
	}
}

// leave is deferred by every call.
func (s *Server) leave(ctx context.Context, method string, err *error) {
	if cause := recover(); cause != nil {
		stack := string(debug.Stack())
		s.log.ErrorContext(ctx, "a CRI call panicked", "method", method, "panic", fmt.Sprint(cause), "stack", stack)
		trace.SpanFromContext(ctx).AddEvent("exception", trace.WithAttributes(
			attribute.String("exception.type", "panic"), attribute.String("exception.message", fmt.Sprint(cause)),
			attribute.String("exception.stacktrace", stack)))
		*err = fmt.Errorf("%s: %w: %v", method, pod.ErrBug, cause)
	}
	*err = grpcError(*err)
}

// admit names the request on the server's span and validates it. Its own span begins
// with the server's: what comes before a handler is part of the answer's time.
func admit(ctx context.Context, request any) (err error) {
	_, span := telemetry.StartWithParent(ctx, "cri.admit")
	defer span.End(&err)
	name(ctx, request)
	return validate(request)
}

// name puts what the request is about on the server's span.
func name(ctx context.Context, request any) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	var attrs []attribute.KeyValue
	add := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(value))
		}
	}
	if r, ok := request.(interface{ GetContainerId() string }); ok {
		add(telemetry.KeyContainerID, r.GetContainerId())
	}
	if r, ok := request.(interface{ GetPodSandboxId() string }); ok {
		add(telemetry.KeySandboxID, r.GetPodSandboxId())
	}
	if r, ok := request.(interface{ GetImage() *runtime.ImageSpec }); ok {
		add(telemetry.KeyImageName, r.GetImage().GetImage())
	}
	sandbox := func(config *runtime.PodSandboxConfig) {
		add(telemetry.KeyNamespace, config.GetMetadata().GetNamespace())
		add(telemetry.KeyPodName, config.GetMetadata().GetName())
		add(telemetry.KeyPodUID, config.GetMetadata().GetUid())
	}
	switch r := request.(type) {
	case *runtime.RunPodSandboxRequest:
		sandbox(r.GetConfig())
		add(telemetry.KeyHandler, r.GetRuntimeHandler())
	case *runtime.RestorePodRequest:
		sandbox(r.GetConfig())
		add(telemetry.KeyHandler, r.GetRuntimeHandler())
	case *runtime.CreateContainerRequest:
		sandbox(r.GetSandboxConfig())
		add(telemetry.KeyContainerName, r.GetConfig().GetMetadata().GetName())
		add(telemetry.KeyImageName, r.GetConfig().GetImage().GetUserSpecifiedImage())
	case *runtime.PullImageRequest:
		sandbox(r.GetSandboxConfig())
	}
	span.SetAttributes(attrs...)
}
