package cri

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// maxMessage is the largest message that kubelet and crictl receive, in bytes.
const maxMessage = 16 << 20

// maxExecOutput is what an ExecSync answer can carry in all: a message less its framing.
const maxExecOutput = maxMessage - 1024

// ExecSync runs a command to its end. Output beyond what one answer can carry is
// dropped without an error, as CRI asks.
func (s *runtimeService) ExecSync(ctx context.Context, r *runtime.ExecSyncRequest) (*runtime.ExecSyncResponse, error) {
	result, err := s.pods.ExecSync(ctx, r.GetContainerId(), r.GetCmd(), seconds(r.GetTimeout()))
	if err != nil {
		return nil, err
	}
	trace.SpanFromContext(ctx).SetAttributes(telemetry.KeyExitCode.Int(int(result.ExitCode)))
	stdout, stderr := share(result.Stdout, result.Stderr, maxExecOutput)
	return &runtime.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: result.ExitCode}, nil
}

// share cuts a and b so that both together have at most limit bytes; each may have
// half of it, and what the other leaves over.
func share(a, b []byte, limit int) ([]byte, []byte) {
	a = a[:min(len(a), max(limit/2, limit-len(b)))]
	return a, b[:min(len(b), limit-len(a))]
}

// Exec returns a URL at which a command can be run in a container.
func (s *runtimeService) Exec(ctx context.Context, r *runtime.ExecRequest) (*runtime.ExecResponse, error) {
	id, err := s.running(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	r = proto.CloneOf(r)
	r.ContainerId = id
	url, err := s.streams.Exec(ctx, r)
	if err != nil {
		return nil, err
	}
	return &runtime.ExecResponse{Url: url}, nil
}

// Attach returns a URL at which a container's streams can be joined.
func (s *runtimeService) Attach(ctx context.Context, r *runtime.AttachRequest) (*runtime.AttachResponse, error) {
	id, err := s.running(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	r = proto.CloneOf(r)
	r.ContainerId = id
	url, err := s.streams.Attach(ctx, r)
	if err != nil {
		return nil, err
	}
	return &runtime.AttachResponse{Url: url}, nil
}

// PortForward returns a URL at which a pod's ports can be reached.
func (s *runtimeService) PortForward(ctx context.Context, r *runtime.PortForwardRequest) (*runtime.PortForwardResponse, error) {
	sb, err := s.pods.Sandbox(r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if sb.State != pod.Ready {
		return nil, fmt.Errorf("forward ports of sandbox %s: %w: it is %s", sb.ID.Short(), pod.ErrState, sb.State)
	}
	r = proto.CloneOf(r)
	r.PodSandboxId = string(sb.ID)
	url, err := s.streams.PortForward(ctx, r)
	if err != nil {
		return nil, err
	}
	return &runtime.PortForwardResponse{Url: url}, nil
}

// running returns the whole ID of a container that runs, so that a wrong request
// fails here and not at the URL.
func (s *Server) running(id string) (string, error) {
	c, err := s.pods.Container(id)
	if err != nil {
		return "", err
	}
	if containerState(c.State) != runtime.ContainerState_CONTAINER_RUNNING {
		return "", fmt.Errorf("container %s: %w: it is %s, not running", c.ID.Short(), pod.ErrState, c.State)
	}
	return string(c.ID), nil
}
