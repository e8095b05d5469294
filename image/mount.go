package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/selinux/go-selinux/label"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// maxMountData is what mount(2) takes: a page, with its terminating zero.
const maxMountData = 4095

const volatile = ",volatile"

// mountRootfs mounts overlay for a record whose directories exist.
func (s *Store) mountRootfs(ctx context.Context, id string, record rootfsRecord) (path string, err error) {
	_, span := telemetry.Start(ctx, "image.rootfs.mount", attribute.String("container.id", id), attribute.Int("vitrine.image.layers", len(record.Layers)))
	defer span.End(&err)
	lowers, err := s.lowerDirs(record)
	if err != nil {
		return "", err
	}
	if len(record.UIDMaps)+len(record.GIDMaps) > 0 {
		var release func()
		if lowers, release, err = s.mapLowers(id, lowers, record); err != nil {
			return "", err
		}
		defer release()
	}
	if record.Volume {
		if err := s.mountVolume(id, lowers, record.MountLabel); err != nil {
			return "", fmt.Errorf("mount overlay: %w", err)
		}
		return s.rootfsPath(id, "merged"), nil
	}
	upper, work, merged := s.rootfsPath(id, "upper"), s.rootfsPath(id, "work"), s.rootfsPath(id, "merged")
	// A volatile mount leaves this behind, which refuses the next one. It warns of
	// data lost with a crash; nothing of a writable layer outlives a boot anyway.
	if err := os.RemoveAll(filepath.Join(work, "work", "incompat")); err != nil {
		return "", err
	}
	if err := mountOverlay(lowers, upper, work, merged, record.MountLabel); err != nil {
		return "", fmt.Errorf("mount overlay: %w", err)
	}
	return merged, nil
}

// mountOverlay mounts at merged. volatile spares every unmount a sync of the whole
// file system below (overlayfs syncs the upper file system when its last mount goes).
func mountOverlay(lowers []string, upper, work, merged, mountLabel string) error {
	describe := func(paths []string) string { return overlayOptions(paths, mountLabel) }
	return withOverlayOptions(append([]string{upper, work}, lowers...), describe, func(options string) error {
		err := unix.Mount("overlay", merged, "overlay", 0, options+volatile)
		if errors.Is(err, unix.EINVAL) { // Linux before 5.10
			err = unix.Mount("overlay", merged, "overlay", 0, options)
		}
		return err
	})
}

// withOverlayOptions calls mount with the options that describe makes of the paths.
// When they do not fit into a page, the paths are named by descriptors, which are
// short and open during the call.
func withOverlayOptions(paths []string, describe func([]string) string, mount func(options string) error) error {
	options := describe(paths)
	if len(options) <= maxMountData-len(volatile) {
		return mount(options)
	}
	short := make([]string, len(paths))
	for i, p := range paths {
		f, err := os.OpenFile(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		short[i] = "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	}
	if options = describe(short); len(options) > maxMountData-len(volatile) {
		return fmt.Errorf("%w: %d layers need %d bytes of mount options, %d fit", pod.ErrExhausted, len(paths), len(options), maxMountData)
	}
	return mount(options)
}

func overlayOptions(paths []string, mountLabel string) string {
	return formatLabel("lowerdir="+strings.Join(paths[2:], ":")+",upperdir="+paths[0]+",workdir="+paths[1], mountLabel)
}

func formatLabel(options, mountLabel string) string {
	return label.FormatMountLabel(options, mountLabel)
}

// lowerDirs are the directories of the image's layers, topmost first.
func (s *Store) lowerDirs(record rootfsRecord) ([]string, error) {
	if len(record.Layers) == 0 {
		dir := filepath.Join(s.rootfsDir(), emptyLayer)
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return nil, err
		}
		return []string{dir}, nil
	}
	dirs := make([]string, len(record.Layers))
	for i, layer := range record.Layers {
		dirs[i] = filepath.Join(s.layerDir(layer), "diff")
	}
	return dirs, nil
}

// rootAttr is what the root directory of the image looks like.
type rootAttr struct {
	mode     uint32
	uid, gid int
}

// lowerRoot reads the attributes of the topmost layer's root directory.
func (s *Store) lowerRoot(record rootfsRecord) (rootAttr, error) {
	dirs, err := s.lowerDirs(record)
	if err != nil {
		return rootAttr{}, err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dirs[0], &st); err != nil {
		return rootAttr{}, &os.PathError{Op: "stat", Path: dirs[0], Err: err}
	}
	return rootAttr{st.Mode & 0o7777, int(st.Uid), int(st.Gid)}, nil
}

// copyTo gives dir the attributes, with owners mapped to the container's.
func (r rootAttr) copyTo(dir string, record rootfsRecord) error {
	uid, gid := mapID(record.UIDMaps, r.uid), mapID(record.GIDMaps, r.gid)
	if uid < 0 || gid < 0 {
		return fmt.Errorf("%w: owner %d:%d of the image's root directory is not in the user namespace's maps", pod.ErrInvalid, r.uid, r.gid)
	}
	if uid != os.Geteuid() || gid != os.Getegid() {
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	return unix.Chmod(dir, r.mode) // after chown, which clears bits
}

func mapID(maps []IDMap, id int) int {
	if len(maps) == 0 {
		return id
	}
	for _, m := range maps {
		if id >= int(m.ContainerID) && id < int(m.ContainerID)+int(m.Size) {
			return int(m.HostID) + id - int(m.ContainerID)
		}
	}
	return -1
}

// isMountpoint reports whether something is mounted at path.
func isMountpoint(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// unmount takes away whatever is mounted at path; nothing there is success.
func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil: // one may lie over another
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
}

// privateMount makes mounts below dir invisible to other mount namespaces, so that
// containers do not receive the root file systems of others. Where the file system
// is private already, nothing is mounted.
func privateMount(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var nearest *mountinfo.Info
	for _, m := range mounts {
		if nearest == nil || len(m.Mountpoint) >= len(nearest.Mountpoint) {
			nearest = m
		}
	}
	if nearest == nil || !strings.Contains(nearest.Optional, "shared:") {
		return nil
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", dir, err)
	}
	return nil
}

// dropPrivateMount undoes privateMount when nothing is mounted below.
func dropPrivateMount(dir string) error {
	mounted, err := isMountpoint(dir)
	if err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EBUSY) {
		return &os.PathError{Op: "unmount", Path: dir, Err: err}
	}
	return nil
}
