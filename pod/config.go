package pod

import (
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxConfig is kubelet's request, kept verbatim: in memory as the message, in
// records as its wire bytes, so that fields this build does not know survive a
// write and a read. It is shared and must not be modified.
type SandboxConfig struct{ *runtime.PodSandboxConfig }

// ContainerConfig is kubelet's request for one container, kept verbatim.
// It is shared and must not be modified.
type ContainerConfig struct{ *runtime.ContainerConfig }

// MarshalText encodes the message's wire bytes in base64.
func (c SandboxConfig) MarshalText() ([]byte, error) { return marshalWire(c.PodSandboxConfig) }

// UnmarshalText is the inverse of MarshalText.
func (c *SandboxConfig) UnmarshalText(text []byte) error {
	c.PodSandboxConfig = &runtime.PodSandboxConfig{}
	return unmarshalWire(text, c.PodSandboxConfig)
}

// MarshalText encodes the message's wire bytes in base64.
func (c ContainerConfig) MarshalText() ([]byte, error) { return marshalWire(c.ContainerConfig) }

// UnmarshalText is the inverse of MarshalText.
func (c *ContainerConfig) UnmarshalText(text []byte) error {
	c.ContainerConfig = &runtime.ContainerConfig{}
	return unmarshalWire(text, c.ContainerConfig)
}

func marshalWire(m proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

func unmarshalWire(text []byte, m proto.Message) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("decode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("decode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
