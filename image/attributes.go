package image

import (
	"archive/tar"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes sets owner, mode, extended attributes and times of what is at base,
// which this unpacker created and which is no symbolic link unless h says so.
func (u *unpacker) attributes(h *tar.Header, dir int, base string) error {
	if err := unix.Fchownat(dir, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(dir, base, uint32(h.Mode&0o7777), 0); err != nil {
			return err
		}
	}
	if err := u.xattrs(h, procPath(dir, base)); err != nil {
		return err
	}
	return setTime(dir, base, h)
}

// xattrs sets what the archive carries, except labels of this host's policy and
// overlay's own attributes: an archive has whiteouts for what those mean, and could
// otherwise redirect names within the image.
func (u *unpacker) xattrs(h *tar.Header, where string) error {
	for key, value := range h.PAXRecords {
		name, found := strings.CutPrefix(key, "SCHILY.xattr.")
		if !found || name == "security.selinux" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if err := unix.Lsetxattr(where, name, []byte(value), 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set %q: %w", name, err)
		}
	}
	return nil
}

// setTimes sets the times of directories, which every file in them has changed.
func (u *unpacker) setTimes() error {
	for name, times := range u.times {
		dir, err := u.tree.openDir(path.Dir(name))
		if err != nil {
			continue // replaced by a later entry, as below
		}
		var st unix.Stat_t
		if err := unix.Fstatat(dir, path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := unix.UtimesNanoAt(dir, path.Base(name), times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set times of %.200q: %w", name, err)
		}
	}
	return nil
}

func setTime(dir int, base string, h *tar.Header) error {
	return unix.UtimesNanoAt(dir, base, timesOf(h), unix.AT_SYMLINK_NOFOLLOW)
}

func timesOf(h *tar.Header) []unix.Timespec {
	modified, accessed := h.ModTime, h.AccessTime
	if accessed.Before(modified) {
		accessed = modified
	}
	return []unix.Timespec{timespec(accessed), timespec(modified)}
}

// timespec is t, or the epoch for times that no Unix ever had.
func timespec(t time.Time) unix.Timespec {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(1<<34, 0)) {
		return unix.Timespec{}
	}
	return unix.Timespec(syscall.NsecToTimespec(t.UnixNano()))
}

// processUmask reads the umask without changing it; when that fails, every bit counts
// as masked.
func processUmask() int64 {
	mask := int64(0o777)
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		if _, rest, found := strings.Cut(string(status), "Umask:"); found {
			fmt.Sscanf(rest, "%o", &mask)
		}
	}
	return mask
}
