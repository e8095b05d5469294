package cri

import (
	"context"
	"errors"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// RunPodSandbox makes a pod. A repeated request returns the pod that the first made.
func (s *runtimeService) RunPodSandbox(ctx context.Context, r *runtime.RunPodSandboxRequest) (*runtime.RunPodSandboxResponse, error) {
	id, err := s.pods.RunSandbox(ctx, r.GetConfig(), r.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	return &runtime.RunPodSandboxResponse{PodSandboxId: string(id)}, nil
}

// StopPodSandbox ends a pod's containers and gives its network back. A pod that does
// not exist is stopped.
func (s *runtimeService) StopPodSandbox(ctx context.Context, r *runtime.StopPodSandboxRequest) (*runtime.StopPodSandboxResponse, error) {
	err := unlessGone(r.GetPodSandboxId(), s.sandboxExists, func(id string) error { return s.pods.StopSandbox(ctx, id) })
	if err != nil {
		return nil, err
	}
	return &runtime.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox removes a pod and its containers, running or not.
func (s *runtimeService) RemovePodSandbox(ctx context.Context, r *runtime.RemovePodSandboxRequest) (*runtime.RemovePodSandboxResponse, error) {
	err := unlessGone(r.GetPodSandboxId(), s.sandboxExists, func(id string) error { return s.pods.RemoveSandbox(ctx, id) })
	if err != nil {
		return nil, err
	}
	return &runtime.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus tells about a pod and its containers.
func (s *runtimeService) PodSandboxStatus(_ context.Context, r *runtime.PodSandboxStatusRequest) (*runtime.PodSandboxStatusResponse, error) {
	at := time.Now() // before reading: what is reported is at least as new
	sb, err := s.pods.Sandbox(r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	response := &runtime.PodSandboxStatusResponse{
		Status: sandboxStatus(sb), ContainersStatuses: statuses(s.pods.ContainersOf(sb.ID)), Timestamp: at.UnixNano(),
	}
	if r.GetVerbose() {
		if response.Info, err = s.pods.InspectSandbox(string(sb.ID)); err != nil {
			return nil, err
		}
	}
	return response, nil
}

// UpdatePodSandboxResources takes note of a pod's resources after kubelet has changed
// the pod's cgroup.
func (s *runtimeService) UpdatePodSandboxResources(ctx context.Context, r *runtime.UpdatePodSandboxResourcesRequest) (*runtime.UpdatePodSandboxResourcesResponse, error) {
	if err := s.pods.UpdateSandboxResources(ctx, r.GetPodSandboxId(), r.GetOverhead(), r.GetResources()); err != nil {
		return nil, err
	}
	return &runtime.UpdatePodSandboxResourcesResponse{}, nil
}

func statuses(containers []pod.Container) []*runtime.ContainerStatus {
	var all []*runtime.ContainerStatus
	for _, c := range containers {
		if visible(c.State) {
			all = append(all, containerStatus(c))
		}
	}
	return all
}

func (s *Server) sandboxExists(id string) error {
	_, err := s.pods.Sandbox(id)
	return err
}

func (s *Server) containerExists(id string) error {
	_, err := s.pods.Container(id)
	return err
}

// unlessGone acts on an object; one that does not exist, or that is gone when acting
// on it fails with ErrNotFound, is success. Something else that is not found, such as
// a network's configuration, stays a failure.
func unlessGone(id string, exists func(string) error, act func(string) error) error {
	if err := exists(id); err != nil {
		return ignoreNotFound(err)
	}
	err := act(id)
	if errors.Is(err, pod.ErrNotFound) && errors.Is(exists(id), pod.ErrNotFound) {
		return nil
	}
	return err
}

func ignoreNotFound(err error) error {
	if errors.Is(err, pod.ErrNotFound) {
		return nil
	}
	return err
}
