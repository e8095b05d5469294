package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// namespaces chooses each namespace: the host's (not listed), the pod's or another
// container's (a path), or a new one.
func (b *builder) namespaces() error {
	options := b.security.GetNamespaceOptions()
	if options == nil {
		options = b.Sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions()
	}
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, n := range []struct {
		field string
		kind  specs.LinuxNamespaceType
		mode  runtime.NamespaceMode
		path  string
	}{
		{"network", specs.NetworkNamespace, options.GetNetwork(), b.Namespaces.Net},
		{"ipc", specs.IPCNamespace, options.GetIpc(), b.Namespaces.IPC},
		{"pid", specs.PIDNamespace, options.GetPid(), b.Namespaces.PID},
	} {
		switch n.mode {
		case runtime.NamespaceMode_NODE:
			continue
		case runtime.NamespaceMode_CONTAINER:
			n.path = ""
		case runtime.NamespaceMode_POD:
			if n.path == "" {
				return invalid("namespace_options.%s: the pod has no %s namespace of its own to share", n.field, n.field)
			}
		case runtime.NamespaceMode_TARGET:
			if n.kind != specs.PIDNamespace || options.GetTargetId() == "" {
				return invalid("namespace_options.%s: TARGET is for pid and needs a target_id", n.field)
			}
			if n.path = b.PidNS; n.path == "" {
				return invalid("namespace_options.target_id: container %.80q has no pid namespace to join", options.GetTargetId())
			}
		default:
			return invalid("namespace_options.%s: unknown mode %d", n.field, n.mode)
		}
		if err := checkNamespacePath(n.path); err != nil {
			return err
		}
		list = append(list, specs.LinuxNamespace{Type: n.kind, Path: n.path})
	}
	if options.GetNetwork() != runtime.NamespaceMode_NODE { // CRI ties the host name to the network
		list = append(list, specs.LinuxNamespace{Type: specs.UTSNamespace, Path: b.Namespaces.UTS})
		if b.Namespaces.UTS == "" {
			if err := ValidateHostname(b.hostname()); err != nil {
				return err
			}
			b.spec.Hostname = b.hostname()
		}
	}
	if b.Host.CgroupV2 {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if path := b.Namespaces.User; path != "" {
		if err := checkNamespacePath(path); err != nil {
			return err
		}
		list = append(list, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
	}
	b.spec.Linux.Namespaces = list
	return nil
}

// hostname is the pod's name for itself: the request's or, for clients that give
// none, the beginning of the sandbox's ID. It is empty on the host's network without
// one in the request: the host's name holds.
func (b *builder) hostname() string {
	name := b.Sandbox.GetHostname()
	if name == "" && b.Sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtime.NamespaceMode_NODE {
		name = b.SandboxID.Short()
	}
	return name
}

// joins reports whether the container is in the given kind of namespace other than
// the host's.
func (b *builder) joins(kind specs.LinuxNamespaceType) bool {
	for _, n := range b.spec.Linux.Namespaces {
		if n.Type == kind {
			return true
		}
	}
	return false
}

func checkNamespacePath(path string) error {
	if path != "" && (!strings.HasPrefix(path, "/") || hasNUL(path)) {
		return invalid("namespace path: %.200q is not absolute", path)
	}
	return nil
}
