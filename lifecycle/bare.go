package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// bareMounts is a mount namespace with the host's root file system, /proc and cgroups, each
// without what is mounted below, and nothing else. Ordinary containers are born from it
// (docs/decisions/0189): a new namespace is a copy of the one that it is made from, and the
// host's has as many mounts as the node has containers. No process is in it: it lasts as long
// as its file. It holds no volume, because it holds no mount that comes and goes.
type bareMounts struct{ file *os.File }

// cgroupRoot is where the cgroups of a usual host are.
const cgroupRoot = "/sys/fs/cgroup"

// newBareMounts makes the namespace; pod.ErrUnsupported says that this host is unusual, or that
// its kernel has no open_tree(2) (Linux 5.2).
func newBareMounts() (*bareMounts, error) {
	places, err := barePlaces()
	if err != nil {
		return nil, err
	}
	b := new(bareMounts)
	done := make(chan error, 1)
	go func() { done <- b.make(places) }()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("make a namespace of few mounts: %w", err)
	}
	return b, nil
}

// barePlaces are the mount points that the namespace keeps, parents first.
func barePlaces() ([]string, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "cgroup" && m.FSType != "cgroup2" && m.Mountpoint != "/proc" && m.Mountpoint != "/sys" && m.Mountpoint != cgroupRoot, false
	})
	if err != nil {
		return nil, err
	}
	type device struct{ major, minor int }
	kept, all := map[device]bool{}, map[device]string{}
	places := []string{"/"}
	for _, m := range mounts {
		d := device{m.Major, m.Minor}
		if m.FSType == "cgroup" || m.FSType == "cgroup2" {
			all[d] = m.Mountpoint
			if m.Mountpoint != cgroupRoot && !strings.HasPrefix(m.Mountpoint, cgroupRoot+"/") {
				continue
			}
			kept[d] = true
		}
		if !slices.Contains(places, m.Mountpoint) {
			places = append(places, m.Mountpoint)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("%w: no cgroup file system is mounted below %s", pod.ErrUnsupported, cgroupRoot)
	}
	for d, place := range all {
		if !kept[d] { // a launcher that looks there for its hierarchies would miss this one
			return nil, fmt.Errorf("%w: the cgroup file system at %s is not below %s", pod.ErrUnsupported, place, cgroupRoot)
		}
	}
	return places, nil
}

// make does it on a thread that nothing else runs on any more: like its mounts, its root is
// another one. What is to be kept is taken first, as mounts without a place; the new namespace
// gets a new root, everything below the old one is let go, and they are put where they were.
func (b *bareMounts) make(places []string) (err error) {
	runtime.LockOSThread()              // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() { // it cannot end
		defer runtime.UnlockOSThread()
		done := make(chan error, 1)
		go func() { done <- b.make(places) }()
		return <-done
	}
	trees := make([]int, 0, len(places))
	defer func() {
		for _, fd := range trees {
			unix.Close(fd)
		}
	}()
	for _, place := range places {
		fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if errors.Is(err, unix.ENOSYS) {
			err = fmt.Errorf("%w: open_tree(2) (Linux 5.2)", pod.ErrUnsupported)
		}
		if err != nil {
			return fmt.Errorf("take %s: %w", place, err)
		}
		trees = append(trees, fd)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	file, err := os.Open("/proc/thread-self/ns/mnt") // while there is a /proc
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	for _, fd := range trees {
		private := unix.MountAttr{Propagation: unix.MS_PRIVATE}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &private); err != nil {
			return fmt.Errorf("make private: %w", err)
		}
	}
	if err := newRoot(trees[0]); err != nil {
		return err
	}
	for i, fd := range trees[1:] {
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, places[i+1], unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("put %s into its place: %w", places[i+1], err)
		}
	}
	b.file = file
	return nil
}

// newRoot makes the mount tree the root and lets everything else go: pivot_root(2), "pivot_root
// of . and .".
func newRoot(tree int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all private: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil { // the old one lies above
		return fmt.Errorf("let the mounts go: %w", err)
	}
	return unix.Chdir("/")
}

// path is by which other processes open the namespace while this one lives; empty without one.
func (b *bareMounts) path() string {
	if b == nil {
		return ""
	}
	return filepath.Join("/proc", fmt.Sprint(os.Getpid()), "fd", fmt.Sprint(b.file.Fd()))
}

// Close lets the namespace go. Containers that were born from it do not notice.
func (b *bareMounts) Close() error {
	if b == nil {
		return nil
	}
	return b.file.Close()
}
