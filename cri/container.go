package cri

import (
	"context"
	"math"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer makes a container that waits to be started. The sandbox's own
// configuration counts, not the copy in the request.
func (s *runtimeService) CreateContainer(ctx context.Context, r *runtime.CreateContainerRequest) (*runtime.CreateContainerResponse, error) {
	id, err := s.pods.CreateContainer(ctx, r.GetPodSandboxId(), r.GetConfig())
	if err != nil {
		return nil, err
	}
	return &runtime.CreateContainerResponse{ContainerId: string(id)}, nil
}

// StartContainer lets a created container execute its program.
func (s *runtimeService) StartContainer(ctx context.Context, r *runtime.StartContainerRequest) (*runtime.StartContainerResponse, error) {
	if err := s.pods.StartContainer(ctx, r.GetContainerId()); err != nil {
		return nil, err
	}
	return &runtime.StartContainerResponse{}, nil
}

// StopContainer ends a container: by its stop signal, and after timeout seconds by
// SIGKILL. It returns when PID 1 is gone. A container that does not exist is stopped.
func (s *runtimeService) StopContainer(ctx context.Context, r *runtime.StopContainerRequest) (*runtime.StopContainerResponse, error) {
	grace := seconds(r.GetTimeout())
	err := unlessGone(r.GetContainerId(), s.containerExists, func(id string) error { return s.pods.StopContainer(ctx, id, grace) })
	if err != nil {
		return nil, err
	}
	return &runtime.StopContainerResponse{}, nil
}

// seconds is a timeout of the wire; a negative one is none, one that does not fit
// is the longest there is.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), math.MaxInt64/int64(time.Second))) * time.Second
}

// RemoveContainer removes a container, running or not.
func (s *runtimeService) RemoveContainer(ctx context.Context, r *runtime.RemoveContainerRequest) (*runtime.RemoveContainerResponse, error) {
	err := unlessGone(r.GetContainerId(), s.containerExists, func(id string) error { return s.pods.RemoveContainer(ctx, id) })
	if err != nil {
		return nil, err
	}
	return &runtime.RemoveContainerResponse{}, nil
}

// ContainerStatus tells about a container.
func (s *runtimeService) ContainerStatus(_ context.Context, r *runtime.ContainerStatusRequest) (*runtime.ContainerStatusResponse, error) {
	c, err := s.pods.Container(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	response := &runtime.ContainerStatusResponse{Status: containerStatus(c)}
	if r.GetVerbose() {
		if response.Info, err = s.pods.InspectContainer(string(c.ID)); err != nil {
			return nil, err
		}
	}
	return response, nil
}

// UpdateContainerResources changes limits, all of them or none.
func (s *runtimeService) UpdateContainerResources(ctx context.Context, r *runtime.UpdateContainerResourcesRequest) (*runtime.UpdateContainerResourcesResponse, error) {
	if err := s.pods.UpdateResources(ctx, r.GetContainerId(), r.GetLinux()); err != nil {
		return nil, err
	}
	return &runtime.UpdateContainerResourcesResponse{}, nil
}

// ReopenContainerLog makes output go to a new file at the log path.
func (s *runtimeService) ReopenContainerLog(ctx context.Context, r *runtime.ReopenContainerLogRequest) (*runtime.ReopenContainerLogResponse, error) {
	if err := s.pods.ReopenLog(ctx, r.GetContainerId()); err != nil {
		return nil, err
	}
	return &runtime.ReopenContainerLogResponse{}, nil
}
