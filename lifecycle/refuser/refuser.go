package refuser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Two who refuse can be told by what is left:
//
//   - The device cgroup answers EPERM to an open (devcgroup_inode_permission,
//     security/device_cgroup.c; bpf_cgroup_dev); a file's mode answers EACCES. A device that
//     none of the container's rules allows was refused by it.
//   - A file's mode that does not allow what is wanted is overridden by a capability, so the
//     kernel asks for that first (generic_permission, fs/namei.c), and a refusal without such
//     a question is none of the mode's. Where a mount flag, the kind of file or a file system
//     with rules of its own cannot be it either, an AppArmor profile that enforces is.
const (
	layerPermission = "permission"
	layerDevice     = "device"
	layerAppArmor   = "apparmor"
)

// node is what stands at a path of a container.
type node struct {
	mode         uint32
	major, minor uint32
	// flags are those of the mount, magic its file system's kind (statfs(2)); sticky: of
	// the directory around it.
	flags, magic int64
	sticky       bool
}

// Specifications finds what a container was made from.
type Specifications func(pod.ID) (*specs.Spec, error)

// TellApart names who refused, where the ledger's line holds only that somebody did: it then
// changes the line's layer, remedy and text.
func TellApart(c pod.Container, specification Specifications, d *pod.Denial) {
	if d.Layer != layerPermission || !filepath.IsAbs(d.Path) || d.Error != "EPERM" && d.Error != "EACCES" {
		return
	}
	s, err := specification(c.ID)
	if err != nil {
		return
	}
	n, found := nodeAt(c, d.Path)
	if !found {
		return
	}
	switch {
	case d.Error == "EPERM" && strings.HasPrefix(d.Syscall, "open"):
		if text := deviceRefused(s, n); text != "" {
			d.Layer, d.Remedy = layerDevice, "ask for the device: a device plugin's resource, or CDI"
			d.What += ": " + text
		}
	case d.Error == "EACCES":
		profile := enforced(c, s)
		if profile != "" && n.leavesAppArmor(d.Syscall) {
			d.Layer, d.Remedy = layerAppArmor, fmt.Sprintf("a rule for it in the AppArmor profile %s, or another profile (securityContext.appArmorProfile)", profile)
			d.What += fmt.Sprintf(": neither the file's mode nor its mount forbids it, so the AppArmor profile %s does", profile)
		}
	}
}

// Device says that a path of the container is a device which none of its rules
// allows to be opened; empty: it is not, or that is not known.
func Device(c pod.Container, specification Specifications, path string) string {
	s, err := specification(c.ID)
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	n, found := nodeAt(c, path)
	if !found {
		return ""
	}
	if text := deviceRefused(s, n); text != "" {
		return path + ": " + text
	}
	return ""
}

// deviceRefused says that a node is a device that no rule of the specification lets be
// opened for reading or writing. The last rule that fits decides, as the cgroup has it.
func deviceRefused(s *specs.Spec, n node) string {
	var kind string
	switch n.mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return ""
	}
	if s.Linux == nil || s.Linux.Resources == nil || len(s.Linux.Resources.Devices) == 0 {
		return ""
	}
	allowed := false
	for _, rule := range s.Linux.Resources.Devices {
		fits := func(number *int64, have uint32) bool { return number == nil || *number < 0 || *number == int64(have) }
		if rule.Type != "" && rule.Type != "a" && rule.Type != kind || !fits(rule.Major, n.major) || !fits(rule.Minor, n.minor) {
			continue
		}
		if rule.Access == "" || strings.ContainsAny(rule.Access, "rw") {
			allowed = rule.Allow
		}
	}
	if allowed {
		return ""
	}
	return fmt.Sprintf("the device %s %d:%d is none that the container was given, and its cgroup forbids others", kind, n.major, n.minor)
}

// Kinds of file systems whose own rules answer EACCES without a question for a capability.
var ownRules = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.NFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true, unix.V9FS_MAGIC: true,
	unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true, unix.AFS_SUPER_MAGIC: true,
}

// leavesAppArmor: nothing that can be seen of the node explains EACCES.
func (n node) leavesAppArmor(syscall string) bool {
	kind := n.mode & unix.S_IFMT
	device := kind == unix.S_IFCHR || kind == unix.S_IFBLK
	switch {
	case ownRules[n.magic], n.sticky, device && n.flags&unix.ST_NODEV != 0:
		return false
	case strings.HasPrefix(syscall, "exec"):
		return kind == unix.S_IFREG && n.mode&0o111 == 0o111 && n.flags&unix.ST_NOEXEC == 0
	case strings.HasPrefix(syscall, "open"):
		return kind == unix.S_IFREG || kind == unix.S_IFDIR || device
	}
	return false
}

// enforced is the AppArmor profile that the container runs under, if it refuses anything.
func enforced(c pod.Container, s *specs.Spec) string {
	if s.Process == nil || s.Process.ApparmorProfile == "" || s.Process.ApparmorProfile == "unconfined" {
		return ""
	}
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || !strings.HasPrefix(string(on), "Y") {
		return ""
	}
	if proc.Alive(c.Init) { // which profile complains only, nobody else tells
		label, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/apparmor/current", c.Init.PID))
		if err == nil && !strings.Contains(string(label), "(enforce)") {
			return ""
		}
	}
	return s.Process.ApparmorProfile
}

// nodeAt looks at a path of a container: through its PID 1 while that lives, then through
// its mounts and root on the host. It looks only at what the kernel has in memory, as what
// was just refused is, so it does not wait for a file system that hangs.
func nodeAt(c pod.Container, path string) (n node, found bool) {
	root, rest := c.Rootfs, path
	if proc.Alive(c.Init) {
		root = fmt.Sprintf("/proc/%d/root", c.Init.PID)
	} else {
		longest := 0
		for _, mount := range c.Config.GetMounts() {
			at := filepath.Clean(mount.GetContainerPath())
			if below, inside := strings.CutPrefix(filepath.Clean(path), at); inside && (below == "" || below[0] == '/') && len(at) > longest && mount.GetHostPath() != "" {
				longest, root, rest = len(at), mount.GetHostPath(), below
			}
		}
	}
	if root == "" {
		return n, false
	}
	base, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return n, false
	}
	defer unix.Close(base)
	fd := base
	if rest = strings.Trim(rest, "/"); rest != "" {
		if fd, err = beneath(base, rest); err != nil {
			return n, false
		}
		defer unix.Close(fd)
		if around, err := beneath(base, filepath.Dir(rest)); err == nil {
			var st unix.Statx_t
			n.sticky = unix.Statx(around, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MODE, &st) == nil && st.Mode&unix.S_ISVTX != 0
			unix.Close(around)
		}
	}
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_MODE, &st) != nil {
		return n, false
	}
	n.mode, n.major, n.minor = uint32(st.Mode), st.Rdev_major, st.Rdev_minor
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return n, false
	}
	n.flags, n.magic = int64(fs.Flags), int64(fs.Type)
	return n, true
}

// resolveCached is RESOLVE_CACHED (include/uapi/linux/openat2.h).
const resolveCached = 0x20

// beneath opens a path as the container sees it, without waiting for a disk or a server
// (openat2(2): RESOLVE_CACHED, since Linux 5.12; older kernels look for real).
func beneath(root int, path string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolveCached}
	if fd, err = unix.Openat2(root, path, &how); err == unix.EINVAL {
		how.Resolve &^= resolveCached
		fd, err = unix.Openat2(root, path, &how)
	}
	return fd, err
}
