package cri_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/arbitrary"
)

// FuzzRequests: a request that obeys api.proto is answered, or refused with a code that
// tells the client what to do; no handler panics, which would be Internal.
func FuzzRequests(f *testing.F) {
	for seed := range byte(64) {
		f.Add(seed, []byte{seed, 2, seed * 5, 3, 7 * seed, 11, 13, seed, 17, 19, 23, 3 * seed, 29, 31}, seed)
	}
	k := newKubelet(f)
	sandbox, container := k.running("web", 0)
	methods := methods()
	f.Fuzz(func(t *testing.T, method byte, choices []byte, times byte) {
		m := arbitrary.FromBytes(choices)
		m.Words = map[string][]string{
			"pod_sandbox_id": {sandbox, sandbox[:9]}, "container_id": {container}, "id": {sandbox, container}, "image": {"abc"},
			"runtime_handler": {"", "native"}, "cmd": {"true"},
		}
		desc := methods[int(method)%len(methods)]
		request := message(t, desc.Input().FullName())
		switch r := request.(type) {
		case *runtime.RunPodSandboxRequest:
			r.Config = sandboxConfig("fuzzed")
			m.Disturb(r, 1+int(times)%8)
		case *runtime.CreateContainerRequest:
			r.PodSandboxId, r.Config = sandbox, containerConfig("fuzzed", 0)
			m.Disturb(r, 1+int(times)%8)
		default:
			m.Fill(request)
		}
		err := invoke(k.conn, desc, request, message(t, desc.Output().FullName()))
		if code := status.Code(err); !slices.Contains([]codes.Code{
			codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition,
			codes.Unimplemented, codes.ResourceExhausted, codes.DeadlineExceeded,
		}, code) {
			t.Fatalf("%s of %v: %v", desc.Name(), request, err)
		}
	})
}

// methods are all calls of both services but those that do away with the pod that the
// others are about.
func methods() (all []protoreflect.MethodDescriptor) {
	services := (&runtime.VersionRequest{}).ProtoReflect().Descriptor().ParentFile().Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			m := services.Get(i).Methods().Get(j)
			if !slices.Contains([]protoreflect.Name{"StopPodSandbox", "RemovePodSandbox", "StopContainer", "RemoveContainer"}, m.Name()) {
				all = append(all, m)
			}
		}
	}
	return all
}

func message(t testing.TB, name protoreflect.FullName) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// invoke calls a method, and reads a stream until it ends or for a moment.
func invoke(conn *grpc.ClientConn, desc protoreflect.MethodDescriptor, request, answer proto.Message) error {
	path := "/" + string(desc.Parent().FullName()) + "/" + string(desc.Name())
	if !desc.IsStreamingServer() {
		return conn.Invoke(context.Background(), path, request, answer)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(request), stream.CloseSend()); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(answer); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
