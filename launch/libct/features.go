package libct

import (
	"encoding/json"
	"errors"
	"os"
	"runtime/debug"
	"slices"

	"github.com/opencontainers/runc/libcontainer/apparmor"
	"github.com/opencontainers/runc/libcontainer/capabilities"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// features tells what libcontainer knows and this kernel can do.
func (j *job) features() (launch.Document, error) {
	hasMountSetattr := kernelHas(unix.SYS_MOUNT_SETATTR)
	f := launch.Features{
		Runtime:                 "libcontainer",
		Version:                 libraryVersion(),
		OCIVersion:              specs.Version,
		RecursiveReadOnlyMounts: hasMountSetattr && slices.Contains(specconv.KnownMountOptions(), "rro"),
		IDMappedMounts:          hasMountSetattr,
		UserNamespaces:          hasMountSetattr && mayUnshareUser(),
		Checkpoint:              true,
		Apparmor:                apparmor.IsEnabled(),
		Selinux:                 selinux.GetEnabled(),
		Namespaces:              specconv.KnownNamespaces(),
		Capabilities:            capabilities.KnownCapabilities(),
		Hooks:                   configs.KnownHookNames(),
		MountOptions:            specconv.KnownMountOptions(),
	}
	if seccomp.Enabled && kernelSeccomp() {
		f.SeccompActions = seccomp.KnownActions()
		f.SeccompArchitectures = seccomp.KnownArchs()
		f.SeccompFlags = seccomp.SupportedFlags()
	}
	for _, list := range [][]string{f.Namespaces, f.Capabilities, f.Hooks, f.MountOptions, f.SeccompActions, f.SeccompArchitectures, f.SeccompFlags} {
		slices.Sort(list)
	}
	j.line.end("libct.features")
	return json.Marshal(f)
}

// kernelHas tells whether the kernel knows a system call: with arguments that no call
// accepts, only a kernel without it answers ENOSYS.
func kernelHas(number uintptr) bool {
	_, _, errno := unix.Syscall6(number, ^uintptr(0), 0, ^uintptr(0), 0, 0, 0)
	return errno != unix.ENOSYS
}

// kernelSeccomp tells whether filters can be loaded.
func kernelSeccomp() bool {
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	return errors.Is(err, unix.EFAULT) // it got as far as reading the program
}

// mayUnshareUser tells whether user namespaces exist and are not switched off.
func mayUnshareUser() bool {
	limit, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	return err == nil && string(limit) != "0\n"
}

// libraryVersion is the version of runc that is linked.
func libraryVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/opencontainers/runc" {
				return dep.Version
			}
		}
	}
	return ""
}
