package harness

import (
	"testing"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestAFieldIsLeftOutWhereverItIsAndOfACopyOnly(t *testing.T) {
	config := &runtime.ContainerConfig{
		Envs:   []*runtime.KeyValue{{Key: "A", Value: []byte("1")}, {Key: "B", Value: []byte("2")}},
		Linux:  &runtime.LinuxContainerConfig{Resources: &runtime.LinuxContainerResources{CpuShares: 7, Unified: map[string]string{"a": "b"}}},
		Labels: map[string]string{"a": "b"},
	}
	request := &runtime.CreateContainerRequest{PodSandboxId: "id", Config: config}
	before := proto.CloneOf(request)
	for field, want := range map[string]func(*runtime.ContainerConfig){
		"KeyValue.value":                     func(c *runtime.ContainerConfig) { c.Envs[0].Value, c.Envs[1].Value = nil, nil },
		"LinuxContainerResources.cpu_shares": func(c *runtime.ContainerConfig) { c.Linux.Resources.CpuShares = 0 },
		"LinuxContainerResources.unified":    func(c *runtime.ContainerConfig) { c.Linux.Resources.Unified = nil },
		"ContainerConfig.labels":             func(c *runtime.ContainerConfig) { c.Labels = nil },
		"ContainerConfig.no_such_field":      func(*runtime.ContainerConfig) {},
	} {
		wanted := proto.CloneOf(before)
		want(wanted.Config)
		if got := without(request, field); !proto.Equal(got.(proto.Message), wanted) {
			t.Errorf("without %s: %v", field, got)
		}
	}
	if !proto.Equal(request, before) {
		t.Errorf("the caller's request was changed: %v", request)
	}
}
