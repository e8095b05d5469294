package image

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// mapLowers shows the layers with the container's owners, by ID-mapped mounts that
// are needed only until overlay has taken its own references. The caller releases
// them after mounting.
func (s *Store) mapLowers(id string, lowers []string, record rootfsRecord) (mapped []string, release func(), err error) {
	userns, err := usernsWith(record.UIDMaps, record.GIDMaps)
	if err != nil {
		return nil, nil, fmt.Errorf("make user namespace for id-mapped layers: %w", err)
	}
	defer userns.Close()
	dir := filepath.Join(s.config.RunRoot, "idmap", id)
	release = func() {
		for i := range lowers {
			unix.Unmount(filepath.Join(dir, strconv.Itoa(i)), unix.MNT_DETACH)
		}
		os.RemoveAll(dir)
		os.Remove(filepath.Dir(dir)) // with the last one
	}
	for i, lower := range lowers {
		target := filepath.Join(dir, strconv.Itoa(i))
		if err := os.MkdirAll(target, 0o700); err != nil {
			release()
			return nil, nil, err
		}
		if err := mountMapped(lower, target, userns); err != nil {
			release()
			return nil, nil, fmt.Errorf("%w: id-mapped mount of %s (Linux 5.19 for overlay, and the file system's support): %w", pod.ErrUnsupported, lower, err)
		}
		mapped = append(mapped, target)
	}
	return mapped, release, nil
}

// mountMapped shows source at target with the IDs that userns maps them to.
func mountMapped(source, target string, userns *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(userns.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// usernsWith makes a user namespace with the maps. A namespace needs a first process:
// this one is stopped by ptrace before its first instruction and never runs.
func usernsWith(uids, gids []IDMap) (*os.File, error) {
	runtime.LockOSThread() // ptrace and the death signal mean this thread
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: goMaps(uids),
		GidMappings: goMaps(gids),
		Ptrace:      true,
		Pdeathsig:   syscall.SIGKILL,
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		p.Kill()
		p.Wait()
	}()
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
}

func goMaps(maps []IDMap) []syscall.SysProcIDMap {
	var all []syscall.SysProcIDMap
	for _, m := range maps {
		all = append(all, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return all
}
