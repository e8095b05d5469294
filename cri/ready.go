package cri

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ready is an answer that is the wire's bytes already, in pieces that others may be
// sending at the same time. A server with ServerOption sends them as they are; to any
// other codec it is the message with these bytes, copied.
type ready struct {
	of    proto.Message // an empty one of its type
	bytes mem.BufferSlice
}

// ProtoReflect is the message as protobuf has it: bytes that it did not decode are its
// unknown fields, which are sent like known ones.
func (r ready) ProtoReflect() protoreflect.Message {
	m := r.of.ProtoReflect().New()
	m.SetUnknown(r.bytes.Materialize())
	return m
}

// ServerOption lets a server send ready answers without copying them. It changes
// nothing for other messages.
func ServerOption() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")})
}

// codec is gRPC's own for protobuf, except for what is encoded already.
type codec struct{ encoding.CodecV2 }

// Marshal is called once for each message that is sent; gRPC does not change the bytes.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(ready); ok {
		return r.bytes, nil
	}
	return c.CodecV2.Marshal(v)
}
