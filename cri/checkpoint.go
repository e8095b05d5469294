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

// CheckpointPod writes the state of running containers of a pod into a directory and lets
// them go on.
func (s *runtimeService) CheckpointPod(ctx context.Context, r *runtime.CheckpointPodRequest) (*runtime.CheckpointPodResponse, error) {
	if err := s.pods.CheckpointPod(ctx, r.GetPodSandboxId(), r.GetOutputPath(), r.GetContainerIds(), r.GetOptions()); err != nil {
		return nil, err
	}
	return &runtime.CheckpointPodResponse{}, nil
}

// RestorePod makes a pod of a checkpoint, whose containers wait to be started.
func (s *runtimeService) RestorePod(ctx context.Context, r *runtime.RestorePodRequest) (*runtime.RestorePodResponse, error) {
	id, containers, err := s.pods.RestorePod(ctx, r.GetCheckpointPath(), r.GetConfig(), r.GetRuntimeHandler(), r.GetContainerConfigs(), r.GetOptions())
	if err != nil {
		return nil, err
	}
	response := &runtime.RestorePodResponse{PodSandboxId: string(id)}
	for _, c := range containers {
		response.RestoredContainers = append(response.RestoredContainers, &runtime.RestoredContainer{Name: c.Name, ContainerId: string(c.ID)})
	}
	return response, nil
}
