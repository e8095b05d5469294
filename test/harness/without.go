package harness

import (
	"context"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// WithoutEnv names a field, Message.field in the words of api.proto, that this
// process's clients leave out of every request. A test that exercises the field fails
// then; one that passes only mentions it.
const WithoutEnv = "VITRINE_TEST_WITHOUT"

// leaveOut are the interceptors of a client that sends no request with field.
func leaveOut(field string) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, method, without(request, field), reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := stream(ctx, desc, cc, method, opts...)
			return lossyStream{s, field}, err
		}),
	}
}

type lossyStream struct {
	grpc.ClientStream
	field string
}

func (s lossyStream) SendMsg(m any) error { return s.ClientStream.SendMsg(without(m, s.field)) }

// without returns a copy of a message in which no message has the field; the caller's
// stays as it is.
func without(m any, field string) any {
	message, ok := m.(proto.Message)
	if !ok {
		return m
	}
	clone := proto.Clone(message)
	kind, name, _ := strings.Cut(field, ".")
	clearField(clone.ProtoReflect(), protoreflect.Name(kind), protoreflect.Name(name))
	return clone
}

func clearField(m protoreflect.Message, kind, name protoreflect.Name) {
	if m.Descriptor().Name() == kind {
		if f := m.Descriptor().Fields().ByName(name); f != nil {
			m.Clear(f)
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() || f.Message() == nil: // no map of CRI has messages
		case f.IsList():
			for i := range v.List().Len() {
				clearField(v.List().Get(i).Message(), kind, name)
			}
		default:
			clearField(v.Message(), kind, name)
		}
		return true
	})
}

// Without is the field of WithoutEnv, empty for none.
func Without() string { return os.Getenv(WithoutEnv) }
