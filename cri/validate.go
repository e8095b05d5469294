package cri

import (
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// validate checks the shape of a request: what must be there, and what would be
// dangerous to pass on. Whether the host can do it is lifecycle's to say.
// Errors are ErrInvalid and name the field.
func validate(request any) error {
	if r, ok := request.(interface{ GetContainerId() string }); ok {
		if r.GetContainerId() == "" {
			return missing("container_id")
		}
	}
	if r, ok := request.(interface{ GetPodSandboxId() string }); ok {
		if r.GetPodSandboxId() == "" {
			return missing("pod_sandbox_id")
		}
	}
	if r, ok := request.(interface{ GetImage() *runtime.ImageSpec }); ok {
		if r.GetImage().GetImage() == "" {
			return missing("image.image")
		}
	}
	switch r := request.(type) {
	case *runtime.RunPodSandboxRequest:
		return validateSandbox(r.GetConfig())
	case *runtime.CreateContainerRequest:
		return validateContainer(r.GetConfig())
	case *runtime.UpdateContainerResourcesRequest:
		if r.GetLinux() == nil {
			return missing("linux")
		}
	case *runtime.CheckpointContainerRequest:
		if r.GetTimeout() < 0 {
			return invalid("timeout", "%d is negative", r.GetTimeout())
		}
		return validatePlace("location", r.GetLocation())
	case *runtime.CheckpointPodRequest:
		if len(r.GetContainerIds()) == 0 {
			return missing("container_ids")
		}
		return validatePlace("output_path", r.GetOutputPath())
	case *runtime.RestorePodRequest:
		if len(r.GetContainerConfigs()) == 0 {
			return missing("container_configs")
		}
		for _, c := range r.GetContainerConfigs() {
			if err := validateContainer(c); err != nil {
				return err
			}
		}
		if err := validatePlace("checkpoint_path", r.GetCheckpointPath()); err != nil {
			return err
		}
		return validateSandbox(r.GetConfig())
	case *runtime.ExecSyncRequest:
		if r.GetTimeout() < 0 {
			return invalid("timeout", "%d is negative", r.GetTimeout())
		}
		return validateCommand(r.GetCmd())
	case *runtime.ExecRequest:
		if err := validateCommand(r.GetCmd()); err != nil {
			return err
		}
		return validateStreams(r)
	case *runtime.AttachRequest:
		return validateStreams(r)
	case *runtime.PortForwardRequest:
		for i, port := range r.GetPort() {
			if err := validatePort(fmt.Sprintf("port[%d]", i), port, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// validatePlace checks a path on the host that is written to or read.
func validatePlace(field, value string) error {
	switch {
	case value == "":
		return missing(field)
	case !path.IsAbs(value) || escapes(value) || control(value) || path.Clean(value) != strings.TrimSuffix(value, "/"):
		return invalid(field, "%.200q is not a plain absolute path", value)
	}
	return nil
}

func validateSandbox(config *runtime.PodSandboxConfig) error {
	metadata := config.GetMetadata()
	switch {
	case config == nil:
		return missing("config")
	case metadata == nil:
		return missing("config.metadata")
	case metadata.GetName() == "":
		return missing("config.metadata.name")
	case metadata.GetNamespace() == "":
		return missing("config.metadata.namespace")
	case metadata.GetUid() == "":
		return missing("config.metadata.uid")
	}
	for field, value := range map[string]string{
		"config.metadata.name": metadata.GetName(), "config.metadata.namespace": metadata.GetNamespace(),
		"config.metadata.uid": metadata.GetUid(), "config.log_directory": config.GetLogDirectory(),
	} {
		if control(value) {
			return invalid(field, "%.80q contains a control character", value)
		}
	}
	if dir := config.GetLogDirectory(); dir != "" && (!path.IsAbs(dir) || escapes(dir)) {
		return invalid("config.log_directory", "%.200q is not an absolute path without ..", dir)
	}
	dns := config.GetDnsConfig()
	for field, values := range map[string][]string{
		"servers": dns.GetServers(), "searches": dns.GetSearches(), "options": dns.GetOptions(),
	} {
		for i, value := range values { // they become words of lines of resolv.conf
			if value == "" || control(value) || strings.ContainsAny(value, " \t") {
				return invalid(fmt.Sprintf("config.dns_config.%s[%d]", field, i), "%.80q is not one word", value)
			}
		}
	}
	for i, mapping := range config.GetPortMappings() {
		field := fmt.Sprintf("config.port_mappings[%d]", i)
		if err := validatePort(field+".host_port", mapping.GetHostPort(), 0); err != nil {
			return err
		}
		if mapping.GetHostPort() == 0 {
			continue // it maps nothing
		}
		if err := validatePort(field+".container_port", mapping.GetContainerPort(), 1); err != nil {
			return err
		}
		if ip := mapping.GetHostIp(); ip != "" {
			if _, err := netip.ParseAddr(ip); err != nil {
				return invalid(field+".host_ip", "%.80q is not an address", ip)
			}
		}
		if _, known := runtime.Protocol_name[int32(mapping.GetProtocol())]; !known {
			return invalid(field+".protocol", "%d is unknown", mapping.GetProtocol())
		}
	}
	return nil
}

func validateContainer(config *runtime.ContainerConfig) error {
	switch {
	case config == nil:
		return missing("config")
	case config.GetMetadata() == nil:
		return missing("config.metadata")
	case config.GetMetadata().GetName() == "":
		return missing("config.metadata.name")
	case control(config.GetMetadata().GetName()):
		return invalid("config.metadata.name", "%.80q contains a control character", config.GetMetadata().GetName())
	case config.GetImage().GetImage() == "":
		return missing("config.image.image")
	}
	if log := config.GetLogPath(); log != "" && (!filepath.IsLocal(log) || control(log)) {
		return invalid("config.log_path", "%.200q does not stay in the pod's log directory", log)
	}
	for i, m := range config.GetMounts() {
		if m.GetContainerPath() == "" {
			return missing(fmt.Sprintf("config.mounts[%d].container_path", i))
		}
		if m.GetHostPath() == "" && m.GetImage().GetImage() == "" {
			return invalid(fmt.Sprintf("config.mounts[%d]", i), "%.200q has neither host_path nor image", m.GetContainerPath())
		}
		if sub := m.GetImageSubPath(); sub != "" && !filepath.IsLocal(sub) {
			return invalid(fmt.Sprintf("config.mounts[%d].image_sub_path", i), "%.200q does not stay in the image", sub)
		}
	}
	return nil
}

func validateCommand(cmd []string) error {
	if len(cmd) == 0 || cmd[0] == "" {
		return missing("cmd")
	}
	return nil
}

// validateStreams checks what exec and attach have in common.
func validateStreams(r interface {
	GetTty() bool
	GetStdin() bool
	GetStdout() bool
	GetStderr() bool
}) error {
	if r.GetTty() && r.GetStderr() {
		return invalid("stderr", "a terminal has one output: tty and stderr exclude each other")
	}
	if !r.GetStdin() && !r.GetStdout() && !r.GetStderr() {
		return invalid("stdin, stdout, stderr", "at least one of them must be asked for")
	}
	return nil
}

func validatePort(field string, port, lowest int32) error {
	if port < lowest || port > 65535 {
		return invalid(field, "%d is not between %d and 65535", port, lowest)
	}
	return nil
}

// control reports bytes that would break a line or a terminal.
func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func escapes(p string) bool {
	for element := range strings.SplitSeq(p, "/") {
		if element == ".." {
			return true
		}
	}
	return false
}

func missing(field string) error { return fmt.Errorf("%w: %s is missing", pod.ErrInvalid, field) }

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", pod.ErrInvalid, field, fmt.Sprintf(format, args...))
}
