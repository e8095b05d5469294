package spec

import (
	"maps"
	"math"
	"slices"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxHostname is the kernel's bound (__NEW_UTS_LEN).
const maxHostname = 64

// ValidateSandbox checks what of a sandbox's request this package would later
// refuse or misuse, so that the pod fails at its first call.
func ValidateSandbox(c *runtime.PodSandboxConfig) error {
	security := c.GetLinux().GetSecurityContext()
	options := security.GetNamespaceOptions()
	if c.GetHostname() != "" { // without one the sandbox is named after its ID
		if err := ValidateHostname(c.GetHostname()); err != nil {
			return err
		}
	}
	for _, n := range []struct {
		field string
		mode  runtime.NamespaceMode
	}{{"network", options.GetNetwork()}, {"ipc", options.GetIpc()}, {"pid", options.GetPid()}} {
		if n.mode == runtime.NamespaceMode_TARGET || runtime.NamespaceMode_name[int32(n.mode)] == "" {
			return invalid("namespace_options.%s: a sandbox cannot have mode %s", n.field, n.mode)
		}
	}
	if err := ValidateUserNamespace(options.GetUsernsOptions()); err != nil {
		return err
	}
	if security.GetRunAsGroup() != nil && security.GetRunAsUser() == nil {
		return invalid("run_as_group: %d needs a run_as_user", security.GetRunAsGroup().GetValue())
	}
	_, err := Sysctls(c, nil)
	return err
}

// ValidateHostname accepts what the kernel takes and what is safe in a file of
// lines: 1 to 64 letters, digits, hyphens, dots and underscores.
func ValidateHostname(name string) error {
	if name == "" {
		return invalid("hostname: empty")
	}
	if len(name) > maxHostname {
		return invalid("hostname: %.80q has %d bytes, more than %d", name, len(name), maxHostname)
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && (i == 0 || c != '-' && c != '.' && c != '_') {
			return invalid("hostname: %.80q has an unusable byte at %d", name, i)
		}
	}
	return nil
}

// ValidateUserNamespace accepts none, the host's, and a pod's with exactly one
// mapping each of user and group ids that contains id 0 of the container.
func ValidateUserNamespace(u *runtime.UserNamespace) error {
	switch u.GetMode() {
	case runtime.NamespaceMode_NODE:
		if len(u.GetUids())+len(u.GetGids()) > 0 {
			return invalid("userns_options: mappings make no sense in the host's user namespace")
		}
		return nil
	case runtime.NamespaceMode_POD:
		if u == nil {
			return nil
		}
	default:
		return invalid("userns_options.mode: %s is neither POD nor NODE", u.GetMode())
	}
	if err := validateMapping("uids", u.GetUids()); err != nil {
		return err
	}
	return validateMapping("gids", u.GetGids())
}

func validateMapping(field string, list []*runtime.IDMapping) error {
	if len(list) != 1 {
		return invalid("userns_options.%s: %d mappings instead of one", field, len(list))
	}
	m := list[0]
	if m.GetContainerId() != 0 || m.GetLength() == 0 || m.GetHostId() > math.MaxUint32-m.GetLength() {
		return invalid("userns_options.%s: %d:%d:%d does not map id 0 or is too long", field, m.GetContainerId(), m.GetHostId(), m.GetLength())
	}
	return nil
}

// namespacedSysctls are the kernel parameters that belong to a namespace; a name
// ending in a dot is a prefix.
var namespacedSysctls = map[string][]string{
	"ipc": {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced", "fs.mqueue."},
	"network": {"net."},
}

// Sysctls are the parameters to be set in the pod's namespaces: the request's over
// defaults. One that would change the host is refused in the request and left out
// of defaults. Names are returned with dots.
func Sysctls(c *runtime.PodSandboxConfig, defaults map[string]string) (map[string]string, error) {
	options := c.GetLinux().GetSecurityContext().GetNamespaceOptions()
	isHost := map[string]bool{
		"ipc":     options.GetIpc() == runtime.NamespaceMode_NODE,
		"network": options.GetNetwork() == runtime.NamespaceMode_NODE,
	}
	result := map[string]string{}
	for name, value := range defaults {
		if name = normalSysctl(name); checkSysctl(name, value, isHost) == nil {
			result[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.GetLinux().GetSysctls())) {
		value := c.GetLinux().GetSysctls()[name]
		if name = normalSysctl(name); len(name) == 0 {
			return nil, invalid("sysctls: an empty name")
		}
		if err := checkSysctl(name, value, isHost); err != nil {
			return nil, err
		}
		result[name] = value
	}
	return result, nil
}

// normalSysctl turns the form with slashes into that with dots: the first separator
// says which one is meant (sysctl.d(5)).
func normalSysctl(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return swapSeparators(name)
	}
	return name
}

// checkSysctl is an allow-list of names and bytes: a name becomes a path, and a
// value once became the argument of a helper (CVE-2022-0811).
func checkSysctl(name, value string, isHost map[string]bool) error {
	for part := range strings.SplitSeq(strings.ReplaceAll(name, "/", "."), ".") {
		if part == "" || strings.Trim(part, sysctlNameBytes) != "" {
			return invalid("sysctls: %.80q is not a kernel parameter's name", name)
		}
	}
	if len(value) > 4096 || strings.ContainsAny(value, "+=") || strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && (r < 0x20 || r > 0x7e) }) {
		return invalid("sysctls: the value of %.80s has bytes that no parameter takes: %.80q", name, value)
	}
	for kind, names := range namespacedSysctls {
		for _, known := range names {
			if name != known && (!strings.HasSuffix(known, ".") || !strings.HasPrefix(name, known)) {
				continue
			}
			if isHost[kind] {
				return invalid("sysctls: %.80s cannot be set, the pod uses the host's %s namespace", name, kind)
			}
			return nil
		}
	}
	return invalid("sysctls: %.80s belongs to no namespace of a pod", name)
}

const sysctlNameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// swapSeparators exchanges dots and slashes: an interface's name may have a dot.
func swapSeparators(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
