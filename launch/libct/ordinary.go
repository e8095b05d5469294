package libct

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch/enter"
)

// unusual is why a container is libcontainer's.
func unusual(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), enter.ErrNeedsLibcontainer)
}

// ordinary compiles a configuration to what vitrine-enter does, or says what in it only
// libcontainer does: each field is either looked at here or by entersPlainly. The order
// and the details are those of libcontainer's init. paths are the container's cgroups, by
// controller; facts what its exec sessions will need.
func ordinary(c *configs.Config, paths map[string]string, facts enter.Facts) (b enter.Birth, err error) {
	b.Facts, b.Root = facts, c.Rootfs
	switch {
	case !entersPlainly(c):
		return b, unusual("more than namespaces, mounts, a user, limits and a filter")
	case c.NoPivotRoot || c.ParentDeathSignal != 0 || len(c.TimeOffsets) > 0:
		return b, unusual("no pivot_root, a parent's death or another time")
	case hasHooks(c.Hooks):
		return b, unusual("hooks")
	case c.MountLabel != "" || len(c.NetDevices)+len(c.Routes) > 0:
		return b, unusual("a label or devices of the network")
	}
	if err := birthNamespaces(&b, c); err != nil {
		return b, err
	}
	if b.Propagation, b.MountPropagation, err = rootPropagation(c.RootPropagation); err != nil {
		return b, err
	}
	for _, m := range c.Mounts {
		ops, err := mountOps(m, paths, b.OwnCgroups)
		if err != nil {
			return b, err
		}
		b.Ops = append(b.Ops, ops...)
	}
	ops, err := deviceOps(c.Devices)
	if err != nil {
		return b, err
	}
	b.Ops = append(b.Ops, ops...)
	b.OwnDev, b.ReadOnlyRoot = true, c.Readonlyfs
	b.Hostname, b.Domainname = c.Hostname, c.Domainname
	for key, value := range c.Sysctl {
		b.Sysctls = append(b.Sysctls, [2]string{"sys/" + strings.ReplaceAll(key, ".", "/"), value})
	}
	slices.SortFunc(b.Sysctls, func(x, y [2]string) int { return strings.Compare(x[0], y[0]) })
	b.ReadOnlyPaths = c.ReadonlyPaths
	for _, p := range c.MaskPaths {
		if !slices.Contains(b.MaskedPaths, p) {
			b.MaskedPaths = append(b.MaskedPaths, p)
		}
	}
	return b, nil
}

// birthNamespaces tells the namespaces that are made from those that are joined, which the
// facts have.
func birthNamespaces(b *enter.Birth, c *configs.Config) error {
	for _, ns := range c.Namespaces {
		switch {
		case ns.Type == configs.NEWCGROUP && ns.Path != "":
			return unusual("a cgroup namespace that is there")
		case ns.Type == configs.NEWCGROUP:
			b.OwnCgroups = true
		case ns.Path == "":
			b.Fresh |= uint64(ns.Syscall())
		}
	}
	lo := len(c.Networks) == 1 && *c.Networks[0] == (configs.Network{Type: "loopback"})
	if b.Loopback = lo; len(c.Networks) > 0 && !lo || lo && b.Fresh&unix.CLONE_NEWNET == 0 {
		return unusual("interfaces of its own")
	}
	return nil
}

// rootPropagation is what all mounts and the root's mount become before anything is
// mounted. What is to be shared again afterwards is libcontainer's.
func rootPropagation(flags int) (all, root uint64, err error) {
	switch {
	case flags&unix.MS_SHARED != 0 || flags&unix.MS_UNBINDABLE != 0:
		return 0, 0, unusual("a root that is shared or cannot be bound")
	case flags == 0:
		return unix.MS_SLAVE | unix.MS_REC, unix.MS_PRIVATE, nil
	case flags&unix.MS_SLAVE != 0:
		return uint64(flags), unix.MS_SLAVE, nil
	}
	return uint64(flags), unix.MS_PRIVATE, nil
}

// mountOps are those of one mount.
func mountOps(m *configs.Mount, paths map[string]string, ownCgroups bool) ([]enter.Op, error) {
	op := enter.Op{Kind: enter.OpMount, Path: m.Destination, Source: m.Source, Type: m.Device, Data: m.Data}
	if m.IsIDMapped() || m.Extensions != 0 {
		return nil, unusual("mapped or copied contents at %s", m.Destination)
	}
	if err := propagation(&op, m.PropagationFlags); err != nil {
		return nil, err
	}
	switch m.Device {
	case "bind":
		if m.Destination == "/dev" || m.Destination == "/proc" || strings.HasPrefix(m.Destination, "/proc/") {
			return nil, unusual("the host's %s", m.Destination)
		}
		err := bindOp(&op, m)
		return []enter.Op{op}, err
	case "cgroup":
		if cgroups.IsCgroup2UnifiedMode() {
			op.Type, op.Propagation = "cgroup2", 0
			break
		}
		return hierarchyOps(op, m, paths, ownCgroups)
	case "tmpfs":
		op.Flags |= enter.OpMode
	case "proc", "sysfs":
		if m.Destination != "/"+strings.TrimSuffix(m.Device, "fs") {
			return nil, unusual("%s at %s", m.Device, m.Destination)
		}
		op.Flags |= enter.OpPlain
	case "devpts", "mqueue":
	default:
		return nil, unusual("a file system %s", m.Device)
	}
	if m.RecAttr != nil || m.ClearedFlags&^(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC) != 0 {
		return nil, unusual("more than flags at %s", m.Destination)
	}
	attributes, err := mountAttributes(m.Flags)
	if err != nil {
		return nil, err
	}
	op.Set = attributes
	if m.Flags&unix.MS_RDONLY != 0 {
		if m.Device == "tmpfs" || m.Destination == "/dev" {
			op.Set &^= unix.MOUNT_ATTR_RDONLY
			op.Flags |= enter.OpLateReadOnly
		} else {
			op.Flags |= enter.OpReadOnlySuper
		}
	}
	if strings.Contains(m.Data, "mpol") || strings.Contains(m.Data, "context") {
		return nil, unusual("options %s", m.Data) // with commas or quotes of their own
	}
	return []enter.Op{op}, nil
}

// propagation takes the only change of propagation over, if there is one.
func propagation(op *enter.Op, flags []int) error {
	for _, f := range flags {
		kind := f &^ unix.MS_REC
		if len(flags) > 1 || kind != unix.MS_PRIVATE && kind != unix.MS_SLAVE {
			return unusual("propagation out of %s", op.Path)
		}
		op.Propagation = uint64(f)
	}
	return nil
}

// bindOp fills in what a bind mount has of its own. The flags are set in a second step,
// which clears those that are not named and leaves the access times as they are unless
// one of those is: mount(2), MS_REMOUNT with MS_BIND.
func bindOp(op *enter.Op, m *configs.Mount) error {
	const (
		plain = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW
		times = unix.MS_NOATIME | unix.MS_RELATIME | unix.MS_STRICTATIME | unix.MS_NODIRATIME
		clear = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW
	)
	op.Kind, op.Type, op.Data = enter.OpBind, "", ""
	if m.Flags&unix.MS_REC != 0 {
		op.Flags |= enter.OpRecursive
	}
	flags := m.Flags &^ (unix.MS_BIND | unix.MS_REC | unix.MS_REMOUNT)
	if (flags|m.ClearedFlags)&times != 0 || flags&^plain != 0 {
		return unusual("access times at %s", m.Destination)
	}
	if flags != 0 || m.ClearedFlags != 0 {
		set, err := mountAttributes(flags)
		if err != nil {
			return err
		}
		op.Flags |= enter.OpAttributes
		op.Set, op.Clear = set, clear&^set
	}
	if r := m.RecAttr; r != nil {
		if r.Propagation != 0 || r.Userns_fd != 0 {
			return unusual("propagation or users of all mounts at %s", m.Destination)
		}
		op.RecSet, op.RecClear = r.Attr_set, r.Attr_clr
	}
	return nil
}

// mountAttributes says flags of mount(2) as attributes of fsmount(2). MS_RELATIME is its default.
func mountAttributes(flags int) (attributes uint64, err error) {
	for _, f := range []struct {
		flag      int
		attribute uint64
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME}, {unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME}, {unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
		{unix.MS_RELATIME, 0},
	} {
		if flags&f.flag != 0 {
			attributes |= f.attribute
			flags &^= f.flag
		}
	}
	const two = unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_STRICTATIME
	if flags != 0 || attributes&two == two {
		return 0, unusual("mount flags %#x", flags)
	}
	return attributes, nil
}

// hierarchyOps are those of /sys/fs/cgroup of cgroup v1: a tmpfs with a directory for each
// hierarchy, in which that is mounted anew or the container's part of the host's is bound,
// and links for those with two names.
func hierarchyOps(tmpfs enter.Op, m *configs.Mount, paths map[string]string, ownCgroups bool) ([]enter.Op, error) {
	const usual = unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	mounts, err := cgroups.GetCgroupMounts(false)
	if err != nil {
		return nil, fmt.Errorf("find hierarchies: %w", err)
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find hierarchies: %w", err)
	}
	tmpfs.Source, tmpfs.Type, tmpfs.Data, tmpfs.Set = "tmpfs", "tmpfs", "mode=755", usual
	tmpfs.Flags = enter.OpMode
	all, links := []enter.Op{tmpfs}, []enter.Op(nil)
	for _, mm := range mounts {
		name := filepath.Base(mm.Mountpoint)
		at := path.Join(m.Destination, name)
		if ownCgroups {
			op := enter.Op{Kind: enter.OpMount, Path: at, Source: "cgroup", Type: "cgroup", Data: name, Set: usual}
			if name == "systemd" {
				op.Source, op.Data = "systemd", cgroups.CgroupNamePrefix+name
			}
			if m.Flags&unix.MS_RDONLY != 0 {
				op.Set |= unix.MOUNT_ATTR_RDONLY
				op.Flags |= enter.OpReadOnlySuper
			}
			all = append(all, op)
		} else {
			source, err := hierarchyOf(mm, paths, own)
			if err != nil {
				return nil, err
			}
			op := enter.Op{Path: at, Source: source, Propagation: tmpfs.Propagation}
			bind := *m
			bind.Flags |= unix.MS_BIND | unix.MS_REC
			relatime := bind.Flags&unix.MS_RELATIME != 0
			bind.Flags &^= unix.MS_RELATIME
			if err := bindOp(&op, &bind); err != nil {
				return nil, err
			}
			if relatime {
				op.Flags |= enter.OpAttributes
				op.Clear |= unix.MOUNT_ATTR__ATIME
			}
			all = append(all, op)
		}
		if strings.Contains(name, ",") {
			for one := range strings.SplitSeq(name, ",") {
				links = append(links, enter.Op{Kind: enter.OpLink, Path: path.Join(m.Destination, one), Source: name})
			}
		}
	}
	return append(all, links...), nil
}

// hierarchyOf is the directory that the container is in, or stays in where it has none.
func hierarchyOf(m cgroups.Mount, paths, own map[string]string) (string, error) {
	for _, key := range []string{m.Subsystems[0], cgroups.CgroupNamePrefix + m.Subsystems[0]} {
		if dir := paths[key]; dir != "" {
			return dir, nil
		}
	}
	dir, err := m.GetOwnCgroup(own)
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	below, err := filepath.Rel(m.Root, dir)
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	return filepath.Join(m.Mountpoint, below), nil
}

// deviceOps are the nodes of /dev and its links.
func deviceOps(nodes []*devices.Device) (ops []enter.Op, err error) {
	for _, d := range nodes {
		if d.Path == "" || d.Path == "/dev/ptmx" { // a rule for the cgroup; a link, below
			continue
		}
		kind, known := map[devices.Type]uint64{devices.BlockDevice: unix.S_IFBLK, devices.CharDevice: unix.S_IFCHR, devices.FifoDevice: unix.S_IFIFO}[d.Type]
		if !known || d.FileMode&^os.ModePerm != 0 {
			return nil, unusual("a device %s", d.Path)
		}
		number, err := d.Mkdev()
		if err != nil {
			return nil, unusual("a device %s", d.Path)
		}
		ops = append(ops, enter.Op{Kind: enter.OpNode, Path: d.Path, Set: kind | uint64(d.FileMode), Clear: number,
			Propagation: uint64(d.Uid) | uint64(d.Gid)<<32})
	}
	link := func(path, text string, flags uint64) {
		ops = append(ops, enter.Op{Kind: enter.OpLink, Path: path, Source: text, Flags: flags})
	}
	ops = append(ops, enter.Op{Kind: enter.OpUnlink, Path: "/dev/ptmx"})
	link("/dev/ptmx", "pts/ptmx", enter.OpMust)
	link("/dev/fd", "/proc/self/fd", 0)
	link("/dev/stdin", "/proc/self/fd/0", 0)
	link("/dev/stdout", "/proc/self/fd/1", 0)
	link("/dev/stderr", "/proc/self/fd/2", 0)
	if _, err := os.Stat("/proc/kcore"); err == nil {
		link("/dev/core", "/proc/kcore", 0)
	}
	return ops, nil
}

func hasHooks(hooks configs.Hooks) bool {
	for _, list := range hooks {
		if len(list) > 0 {
			return true
		}
	}
	return false
}
