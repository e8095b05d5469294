package cri

import (
	"context"
	"encoding/json"
	"fmt"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Version names the runtime. Clients only check that the API is v1.
func (s *runtimeService) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{
		Version:     "0.1.0", // the version of this answer, fixed since the first CRI
		RuntimeName: "vitrine", RuntimeVersion: semantic(s.config.Version), RuntimeApiVersion: "v1",
	}, nil
}

// Status tells kubelet whether pods can be run, and what the handlers can do.
func (s *runtimeService) Status(_ context.Context, r *runtime.StatusRequest) (*runtime.StatusResponse, error) {
	network := &runtime.RuntimeCondition{Type: runtime.NetworkReady, Status: true}
	if err := s.pods.NetworkReady(); err != nil {
		network.Status, network.Reason, network.Message = false, "NetworkPluginNotReady", oneLine(err.Error())
	}
	conditions := []*runtime.RuntimeCondition{{Type: runtime.RuntimeReady, Status: true}, network}
	if s.config.Conditions != nil {
		conditions = append(conditions, s.config.Conditions()...)
	}
	response := &runtime.StatusResponse{
		Status:   &runtime.RuntimeStatus{Conditions: conditions},
		Features: &runtime.RuntimeFeatures{SupplementalGroupsPolicy: true, UserNamespacesHostNetwork: true, MountOptions: true},
	}
	for _, h := range s.pods.Handlers() {
		response.RuntimeHandlers = append(response.RuntimeHandlers, &runtime.RuntimeHandler{
			Name: h.Name,
			Features: &runtime.RuntimeHandlerFeatures{
				RecursiveReadOnlyMounts: h.RecursiveReadOnlyMounts, UserNamespaces: h.UserNamespaces,
			},
		})
	}
	if r.GetVerbose() {
		raw, err := json.Marshal(map[string]any{
			"version": s.config.Version, "cgroupDriver": s.pods.CgroupDriver(), "operations": s.pods.Operations(),
		})
		if err != nil {
			return nil, fmt.Errorf("encode status: %w", err)
		}
		response.Info = map[string]string{"info": string(raw)}
	}
	return response, nil
}

// RuntimeConfig tells kubelet which cgroup driver to use.
func (s *runtimeService) RuntimeConfig(context.Context, *runtime.RuntimeConfigRequest) (*runtime.RuntimeConfigResponse, error) {
	driver := runtime.CgroupDriver_CGROUPFS
	if s.pods.CgroupDriver() == "systemd" {
		driver = runtime.CgroupDriver_SYSTEMD
	}
	return &runtime.RuntimeConfigResponse{Linux: &runtime.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// UpdateRuntimeConfig takes note of the node's pod CIDR. Addresses come from the CNI
// configuration, whose administrator knows the range; kubelet sends it to every
// runtime and must not be refused.
func (s *runtimeService) UpdateRuntimeConfig(ctx context.Context, r *runtime.UpdateRuntimeConfigRequest) (*runtime.UpdateRuntimeConfigResponse, error) {
	cidr := r.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	s.log.InfoContext(ctx, "kubelet's pod CIDR was received; addresses come from the CNI configuration", "pod_cidr", cidr)
	return &runtime.UpdateRuntimeConfigResponse{}, nil
}
