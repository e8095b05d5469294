package spec

import (
	"path"
	"slices"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// DefaultMaskedPaths and DefaultReadonlyPaths hide or protect what of /proc and /sys
// tells about or changes the host.
var (
	DefaultMaskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	DefaultReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// confinement sets what takes abilities away: masks, seccomp, AppArmor, SELinux. A
// privileged container has none of them.
func (b *builder) confinement() error {
	if b.privileged {
		return nil
	}
	if err := b.masks(); err != nil {
		return err
	}
	var err error
	if b.spec.Linux.Seccomp, err = b.seccomp(); err != nil {
		return err
	}
	if b.spec.Process.ApparmorProfile, err = b.apparmor(); err != nil {
		return err
	}
	b.spec.Process.SelinuxLabel = b.ProcessLabel
	b.spec.Linux.MountLabel = b.MountLabel
	return nil
}

// masks takes the request's lists as they are: on the wire an empty list cannot be
// told from none, and kubelet means "unmasked" by it. Only a request without any
// security context gets the defaults.
func (b *builder) masks() error {
	masked, readonly := b.security.GetMaskedPaths(), b.security.GetReadonlyPaths()
	if b.security == nil {
		masked, readonly = b.Defaults.MaskedPaths, b.Defaults.ReadonlyPaths
		if masked == nil {
			masked = DefaultMaskedPaths
		}
		if readonly == nil {
			readonly = DefaultReadonlyPaths
		}
	}
	for i, p := range slices.Concat(masked, readonly) {
		if !path.IsAbs(p) || hasNUL(p) {
			return invalid("masked_paths, readonly_paths [%d]: %.200q is not an absolute path", i, p)
		}
	}
	b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = slices.Clone(masked), slices.Clone(readonly)
	return nil
}

// securityProfile is the request's choice: the new field, else the deprecated one,
// else unset. Its words are the same for seccomp and AppArmor.
func securityProfile(field string, profile *runtime.SecurityProfile, deprecated string) (kind runtime.SecurityProfile_ProfileType, ref string, set bool, err error) {
	if profile != nil {
		kind, ref = profile.GetProfileType(), profile.GetLocalhostRef()
		switch kind {
		case runtime.SecurityProfile_RuntimeDefault, runtime.SecurityProfile_Unconfined:
			if ref != "" {
				return 0, "", false, invalid("%s.localhost_ref: %.200q is only for profile type Localhost", field, ref)
			}
		case runtime.SecurityProfile_Localhost:
			if ref == "" {
				return 0, "", false, invalid("%s.localhost_ref: empty for profile type Localhost", field)
			}
		default:
			return 0, "", false, invalid("%s.profile_type: unknown type %d", field, kind)
		}
		return kind, ref, true, nil
	}
	switch {
	case deprecated == "":
		return 0, "", false, nil
	case deprecated == "unconfined":
		return runtime.SecurityProfile_Unconfined, "", true, nil
	case deprecated == "runtime/default" || deprecated == "docker/default":
		return runtime.SecurityProfile_RuntimeDefault, "", true, nil
	case strings.HasPrefix(deprecated, "localhost/") && len(deprecated) > len("localhost/"):
		return runtime.SecurityProfile_Localhost, strings.TrimPrefix(deprecated, "localhost/"), true, nil
	}
	return 0, "", false, invalid("%s profile: %.200q is not runtime/default, unconfined or localhost/…", field, deprecated)
}

// apparmor returns the profile's name; empty means that none is asked of the
// kernel. Without a word in the request the default one applies.
func (b *builder) apparmor() (string, error) {
	kind, ref, _, err := securityProfile("apparmor", b.security.GetApparmor(), b.security.GetApparmorProfile())
	if err != nil {
		return "", err
	}
	switch kind {
	case runtime.SecurityProfile_Localhost:
		if !b.Host.AppArmor {
			return "", unsupported("apparmor: profile %.200q was asked for and AppArmor is not enabled on this host", ref)
		}
		name := strings.TrimPrefix(ref, "localhost/")
		if name == "" || strings.ContainsAny(name, "\x00\n") {
			return "", invalid("apparmor.localhost_ref: %.200q is not a profile's name", ref)
		}
		return name, nil
	case runtime.SecurityProfile_Unconfined:
		if b.Host.AppArmor {
			return "unconfined", nil
		}
	default:
		if b.Host.AppArmor {
			return b.Defaults.AppArmorProfile, nil
		}
	}
	return "", nil
}
