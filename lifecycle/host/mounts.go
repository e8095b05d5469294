package host

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// MountSources finds every requested mount of a host path; both results have an element for
// each mount, an empty one for a volume of an image. The caller gets a clear refusal,
// pod.ErrInvalid, for a path that does not exist, instead of a failing init.
func MountSources(mounts []*runtime.Mount) ([]spec.Source, []pod.Mount, error) {
	sources := make([]spec.Source, len(mounts))
	performed := make([]pod.Mount, len(mounts))
	for i, mount := range mounts {
		if mount.GetImage().GetImage() != "" {
			continue // a volume of an image is no path of the host
		}
		path, err := filepath.EvalSymlinks(mount.GetHostPath())
		if err != nil {
			return nil, nil, fmt.Errorf("%w: mount at %s: host path %q: %w", pod.ErrInvalid, mount.GetContainerPath(), mount.GetHostPath(), RootCause(err))
		}
		sources[i] = spec.Source{Path: path}
		if mount.GetPropagation() != runtime.MountPropagation_PROPAGATION_PRIVATE {
			if sources[i].Shared, sources[i].Slave, err = propagation(path); err != nil {
				return nil, nil, err
			}
		}
		performed[i] = pod.Mount{ContainerPath: mount.GetContainerPath(), HostPath: mount.GetHostPath()}
	}
	return sources, performed, nil
}

// propagation says how the mount that holds path propagates (proc_pid_mountinfo(5)).
func propagation(path string) (shared, slave bool, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return false, false, fmt.Errorf("find mount of %s: %w", path, err)
	}
	var holder *mountinfo.Info
	for _, m := range mounts {
		if holder == nil || len(m.Mountpoint) >= len(holder.Mountpoint) {
			holder = m
		}
	}
	if holder == nil {
		return false, false, nil
	}
	return strings.Contains(holder.Optional, "shared:"), strings.Contains(holder.Optional, "master:"), nil
}

// Devices looks the request's devices up; a directory stands for the devices in it
// and below, 1,024 at most. What is no device is pod.ErrInvalid.
func Devices(devices []*runtime.Device) ([]spec.Device, error) {
	var all []spec.Device
	for _, d := range devices {
		nodes, err := devicesAt(d.GetHostPath(), cmp.Or(d.GetContainerPath(), d.GetHostPath()))
		if err != nil {
			return nil, fmt.Errorf("%w: device %q: %w", pod.ErrInvalid, d.GetHostPath(), RootCause(err))
		}
		for _, node := range nodes {
			all = append(all, spec.Device{LinuxDevice: node, Access: cmp.Or(d.GetPermissions(), "rwm")})
		}
	}
	return all, nil
}

// maxDevices bounds what one directory may stand for.
const maxDevices = 1024

// devicesAt is the device at path, or those below it; links below are not followed.
func devicesAt(path, shown string) (nodes []specs.LinuxDevice, err error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.IsDir() {
		node, err := deviceNode(path, shown)
		return []specs.LinuxDevice{node}, err
	}
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeDevice == 0 {
			return err
		}
		if len(nodes) == maxDevices {
			return fmt.Errorf("more than %d devices are in it", maxDevices)
		}
		node, err := deviceNode(file, filepath.Join(shown, strings.TrimPrefix(file, path)))
		nodes = append(nodes, node)
		return err
	})
	if err == nil && len(nodes) == 0 {
		err = errors.New("it is neither a device node nor a directory with one")
	}
	return nodes, err
}

func deviceNode(path, shown string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, errors.New("it is no device node")
	}
	mode := fs.FileMode(st.Mode & 0o7777)
	return specs.LinuxDevice{
		Path: shown, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}

// deviceNodes lists the host's /dev for privileged containers, without the parts
// that every container has its own of.
func deviceNodes() ([]specs.LinuxDevice, error) {
	var all []specs.LinuxDevice
	err := filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // a node that went away meanwhile
		}
		if entry.IsDir() {
			if slices.Contains([]string{"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.udev"}, path) {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type()&fs.ModeDevice == 0 || path == "/dev/console" {
			return nil
		}
		if node, err := deviceNode(path, path); err == nil {
			all = append(all, node)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return all, nil
}
