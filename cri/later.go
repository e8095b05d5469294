package cri

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Calls that this version does not offer. Kubelet goes on without them.

func unimplemented(what string) error {
	return status.Errorf(codes.Unimplemented, "this version of vitrine does not %s", what)
}

// CheckpointPod is not offered.
func (s *runtimeService) CheckpointPod(context.Context, *runtime.CheckpointPodRequest) (*runtime.CheckpointPodResponse, error) {
	return nil, unimplemented("checkpoint pods")
}

// RestorePod is not offered.
func (s *runtimeService) RestorePod(context.Context, *runtime.RestorePodRequest) (*runtime.RestorePodResponse, error) {
	return nil, unimplemented("restore pods")
}
