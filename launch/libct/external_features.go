package libct

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// features asks the runtime. One that has no such sub-command, or does not start at all,
// has no features but a name: what it cannot tell is not promised.
func (x *external) features() (launch.Document, error) {
	path := x.request.Runtime.Path
	f := launch.Features{Runtime: filepath.Base(path)}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		return nil, invalid("runtime.features", fmt.Errorf("run %s --version: %w", path, err))
	}
	first, _, _ := strings.Cut(string(version), "\n")
	f.Version = strings.TrimSpace(strings.TrimPrefix(first, f.Runtime+" version"))
	if out, err := exec.Command(path, append(slices.Clone(x.request.Runtime.Args), "features")...).Output(); err == nil {
		var told features.Features
		if err := json.Unmarshal(out, &told); err != nil {
			return nil, fmt.Errorf("parse features of %s: %w", path, err)
		}
		translate(&told, &f)
	}
	x.line.end("runtime.features")
	return json.Marshal(f)
}

// translate takes what a runtime tells of itself, as far as the kernel bears it out.
func translate(told *features.Features, f *launch.Features) {
	f.OCIVersion, f.Hooks, f.MountOptions = told.OCIVersionMax, told.Hooks, told.MountOptions
	hasMountSetattr := kernelHas(unix.SYS_MOUNT_SETATTR)
	f.RecursiveReadOnlyMounts = hasMountSetattr && slices.Contains(told.MountOptions, "rro")
	// There is no field for it; runc and crun each have an annotation.
	f.Checkpoint = told.Annotations["org.opencontainers.runc.checkpoint.enabled"] == "true" || told.Annotations["run.oci.crun.checkpoint.enabled"] == "true"
	l := told.Linux
	if l == nil {
		return
	}
	yes := func(b *bool) bool { return b != nil && *b }
	f.Namespaces, f.Capabilities = l.Namespaces, l.Capabilities
	f.IDMappedMounts = hasMountSetattr && l.MountExtensions != nil && l.MountExtensions.IDMap != nil && yes(l.MountExtensions.IDMap.Enabled)
	f.UserNamespaces = f.IDMappedMounts && slices.Contains(l.Namespaces, "user") && mayUnshareUser()
	f.Apparmor = l.Apparmor != nil && yes(l.Apparmor.Enabled)
	f.Selinux = l.Selinux != nil && yes(l.Selinux.Enabled)
	if s := l.Seccomp; s != nil && yes(s.Enabled) {
		f.SeccompActions, f.SeccompArchitectures, f.SeccompFlags = s.Actions, s.Archs, s.SupportedFlags
	}
}
