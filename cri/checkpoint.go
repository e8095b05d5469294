package cri

import (
	"context"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CheckpointContainer writes a running container's state to a file and lets it go on.
func (s *runtimeService) CheckpointContainer(ctx context.Context, r *runtime.CheckpointContainerRequest) (*runtime.CheckpointContainerResponse, error) {
	if err := s.pods.CheckpointContainer(ctx, r.GetContainerId(), r.GetLocation(), seconds(r.GetTimeout())); err != nil {
		return nil, err
	}
	return &runtime.CheckpointContainerResponse{}, nil
}
