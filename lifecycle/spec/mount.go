package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// maxMounts bounds what one container may ask for.
const maxMounts = 10000

const defaultShmSize = 64 << 20

// mounts lists all mounts in the order in which they are made: parents before
// children, and among equals the default ones first. A requested mount takes the
// place of a default at the same path; one at /dev or /sys that of everything
// below, too.
func (b *builder) mounts() error {
	requested, err := b.requestedMounts()
	if err != nil {
		return err
	}
	var all []specs.Mount
	for _, m := range slices.Concat(b.systemMounts(), b.fileMounts(), b.Extra, b.Defaults.Mounts) {
		m.Destination = path.Clean(m.Destination)
		if !hidden(m.Destination, requested) {
			all = append(all, m)
		}
	}
	all = append(all, requested...)
	slices.SortStableFunc(all, func(x, y specs.Mount) int { return depth(x.Destination) - depth(y.Destination) })
	b.spec.Mounts = all
	return nil
}

// hidden reports whether a requested mount takes the place of the default at dest.
func hidden(dest string, requested []specs.Mount) bool {
	return slices.ContainsFunc(requested, func(m specs.Mount) bool {
		if m.Destination == dest {
			return true
		}
		return (m.Destination == "/dev" || m.Destination == "/sys") && strings.HasPrefix(dest, m.Destination+"/")
	})
}

func depth(p string) int { return strings.Count(strings.TrimSuffix(p, "/"), "/") }

// systemMounts are the file systems that every Linux program expects.
func (b *builder) systemMounts() []specs.Mount {
	access := "ro"
	if b.privileged {
		access = "rw"
	}
	user := b.joins(specs.UserNamespace)
	proc := specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}
	mqueue := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}
	sys := specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}}
	// A user namespace may not mount what belongs to a namespace above it: it gets
	// the host's mount instead.
	if user && !b.joins(specs.PIDNamespace) {
		proc = bind("/proc", "/proc", "nosuid", "noexec", "nodev")
	}
	if user && !b.joins(specs.IPCNamespace) {
		mqueue = bind("/dev/mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev")
	}
	if user && !b.joins(specs.NetworkNamespace) {
		sys = bind("/sys", "/sys", "nosuid", "noexec", "nodev", access)
	}
	return []specs.Mount{
		proc,
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		b.shmMount(),
		mqueue,
		sys,
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", "relatime", access}},
	}
}

func (b *builder) shmMount() specs.Mount {
	source := b.Shm
	if !b.joins(specs.IPCNamespace) {
		source = "/dev/shm"
	}
	if source != "" {
		return bind("/dev/shm", source, "nosuid", "noexec", "nodev", "rw")
	}
	size := b.Defaults.ShmSize
	if size <= 0 {
		size = defaultShmSize
	}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}}
}

// fileMounts are the files that give a container its names.
func (b *builder) fileMounts() []specs.Mount {
	access := "rw"
	if b.security.GetReadonlyRootfs() {
		access = "ro"
	}
	var mounts []specs.Mount
	for _, f := range [][2]string{{"/etc/hostname", b.Hostname}, {"/etc/resolv.conf", b.ResolvConf}, {"/etc/hosts", b.HostsFile}} {
		if f[1] != "" {
			mounts = append(mounts, bind(f[0], f[1], "nosuid", "nodev", "noexec", access))
		}
	}
	return mounts
}

func bind(dest, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind", "rprivate"}, options...)}
}

func (b *builder) requestedMounts() ([]specs.Mount, error) {
	request := b.Container.GetMounts()
	if len(request) > maxMounts {
		return nil, invalid("mounts: %d are more than %d", len(request), maxMounts)
	}
	mounts := make([]specs.Mount, 0, len(request))
	for i, m := range request {
		source := Source{Path: m.GetHostPath(), Shared: true}
		if b.Sources != nil {
			source = b.Sources[i]
		}
		mount, err := b.requestedMount(m, source)
		if err != nil {
			return nil, fmt.Errorf("mounts[%d]: %w", i, err)
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func (b *builder) requestedMount(m *runtime.Mount, source Source) (specs.Mount, error) {
	none := specs.Mount{}
	dest, err := mountTarget(m.GetContainerPath())
	if err != nil {
		return none, err
	}
	if !path.IsAbs(source.Path) || hasNUL(source.Path) {
		return none, invalid("host_path: %.200q is not an absolute path", source.Path)
	}
	if m.GetImage().GetImage() != "" {
		if m.GetHostPath() != "" {
			return none, invalid("host_path: %.200q cannot be mounted at %s together with image %.200q", m.GetHostPath(), dest, m.GetImage().GetImage())
		}
		if !m.GetReadonly() {
			return none, invalid("readonly: image %.200q can only be mounted read-only at %s", m.GetImage().GetImage(), dest)
		}
	}
	access, err := b.mountAccess(m, dest)
	if err != nil {
		return none, err
	}
	propagation, err := b.mountPropagation(m, source, dest)
	if err != nil {
		return none, err
	}
	extra, err := mountOptions(m.GetMountOptions())
	if err != nil {
		return none, err
	}
	if m.GetImage().GetImage() != "" { // its programs may be executed, but with nobody's powers
		for _, o := range []string{"nosuid", "nodev"} {
			if !slices.Contains(extra, o) {
				extra = append(extra, o)
			}
		}
	}
	uids, gids := idMappings(m.GetUidMappings()), idMappings(m.GetGidMappings())
	if (uids == nil) != (gids == nil) {
		return none, invalid("uidMappings, gidMappings: the mount at %s needs both or neither", dest)
	}
	return specs.Mount{
		Destination: dest, Type: "bind", Source: source.Path,
		Options:     slices.Concat([]string{"rbind", propagation}, access, extra),
		UIDMappings: uids, GIDMappings: gids,
	}, nil
}

// mountTarget checks and cleans a path in the container.
func mountTarget(p string) (string, error) {
	if !path.IsAbs(p) || hasNUL(p) {
		return "", invalid("container_path: %.200q is not an absolute path", p)
	}
	if p = path.Clean(p); p == "/" {
		return "", invalid("container_path: nothing can be mounted at /")
	}
	return p, nil
}

// mountAccess returns the options for reading and writing. "rro" comes after "ro", so
// that a runtime without it at least protects the mount's own file system.
func (b *builder) mountAccess(m *runtime.Mount, dest string) ([]string, error) {
	if !m.GetRecursiveReadOnly() {
		if m.GetReadonly() {
			return []string{"ro"}, nil
		}
		return []string{"rw"}, nil
	}
	if !m.GetReadonly() {
		return nil, invalid("recursive_read_only: the mount at %s needs readonly, too", dest)
	}
	if m.GetPropagation() != runtime.MountPropagation_PROPAGATION_PRIVATE {
		return nil, invalid("recursive_read_only: the mount at %s needs private propagation, not %s", dest, m.GetPropagation())
	}
	if !b.Host.RecursiveReadOnly {
		return nil, fmt.Errorf("%w: mount at %s: this host or runtime handler has no recursive read-only mounts (Linux 5.12)", pod.ErrRROUnsupported, dest)
	}
	return []string{"ro", "rro"}, nil
}

// mountPropagation returns the mount's propagation and raises that of the root file
// system to what it needs.
func (b *builder) mountPropagation(m *runtime.Mount, source Source, dest string) (string, error) {
	root := &b.spec.Linux.RootfsPropagation
	switch m.GetPropagation() {
	case runtime.MountPropagation_PROPAGATION_PRIVATE:
		return "rprivate", nil
	case runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		if !source.Shared && !source.Slave {
			return "", invalid("propagation: %.200q is on a mount that is neither shared nor slave, so nothing propagates to %s", source.Path, dest)
		}
		if *root == "" {
			*root = "rslave"
		}
		return "rslave", nil
	case runtime.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		if !source.Shared {
			return "", invalid("propagation: %.200q is not on a shared mount, so nothing propagates from %s", source.Path, dest)
		}
		*root = "rshared"
		return "rshared", nil
	}
	return "", invalid("propagation: unknown mode %d for %s", m.GetPropagation(), dest)
}

func idMappings(list []*runtime.IDMapping) []specs.LinuxIDMapping {
	var mappings []specs.LinuxIDMapping
	for _, m := range list {
		mappings = append(mappings, specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
	}
	return mappings
}
