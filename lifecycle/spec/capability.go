package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultCapabilities are what a container has that neither adds nor drops.
var DefaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_KILL",
}

// knownCapabilities in the kernel's order (capability.h); the index is the number.
var knownCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// CapabilityNames lists the capabilities of a kernel bit mask, such as CapBnd of
// /proc/self/status, in the kernel's order. Bits without a name are left out.
func CapabilityNames(mask uint64) []string {
	names := []string{}
	for i, name := range knownCapabilities {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// capabilities computes the sets. "ALL" means all that the daemon has, first added,
// then dropped; then single names are added, then dropped. An ambient capability
// is in all five sets. Nothing is inheritable otherwise (CVE-2022-24769).
func (b *builder) capabilities() error {
	host := b.Host.Capabilities
	if host == nil {
		host = knownCapabilities
	}
	if b.privileged {
		all := b.held(knownCapabilities, host, "")
		b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: slices.Clone(all), Permitted: slices.Clone(all)}
		return nil
	}
	request := b.security.GetCapabilities()
	add, addAll, err := capabilityList("add_capabilities", request.GetAddCapabilities(), true)
	if err != nil {
		return err
	}
	drop, dropAll, err := capabilityList("drop_capabilities", request.GetDropCapabilities(), true)
	if err != nil {
		return err
	}
	ambient, _, err := capabilityList("add_ambient_capabilities", request.GetAddAmbientCapabilities(), false)
	if err != nil {
		return err
	}
	start := b.Defaults.Capabilities
	if start == nil {
		start = DefaultCapabilities
	} else if start, _, err = capabilityList("default capabilities", start, false); err != nil {
		return err
	}
	if addAll {
		start = host
	}
	if dropAll {
		start = nil
	}
	dropped := func(name string) bool { return slices.Contains(drop, name) }
	granted := slices.DeleteFunc(slices.Concat(start, add, ambient), dropped)
	granted = b.held(granted, host, "capability cannot be given: the daemon does not have it")
	ambient = b.held(slices.DeleteFunc(ambient, dropped), host, "")
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{
		Bounding: granted, Effective: slices.Clone(granted), Permitted: slices.Clone(granted),
		Inheritable: ambient, Ambient: slices.Clone(ambient),
	}
	return nil
}

// held returns what is in both lists, in the kernel's order. It warns of each
// that is wanted and not held, unless msg is empty.
func (b *builder) held(wanted, host []string, msg string) []string {
	var names []string
	for _, name := range knownCapabilities {
		switch {
		case !slices.Contains(wanted, name):
		case slices.Contains(host, name):
			names = append(names, name)
		case msg != "":
			b.warn(msg, "capability", name)
		}
	}
	return names
}

// capabilityList checks names, written with or without CAP_ and in any case. ALL is
// reported apart and only where allowed.
func capabilityList(field string, names []string, allowAll bool) (list []string, all bool, err error) {
	for i, name := range names {
		full := strings.ToUpper(name)
		if full == "ALL" && allowAll {
			all = true
			continue
		}
		if !strings.HasPrefix(full, "CAP_") {
			full = "CAP_" + full
		}
		if !slices.Contains(knownCapabilities, full) {
			return nil, false, invalid("%s[%d]: %.80q is not a capability", field, i, name)
		}
		list = append(list, full)
	}
	return list, all, nil
}
