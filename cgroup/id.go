package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// ID returns the number by which the kernel's programs know the cgroup: the kernfs
// id of its memory cgroup, which is the inode number of that directory on v1,
// hybrid and v2 alike. One that is not there is pod.ErrNotFound.
func (c *Cgroups) ID(fsPath string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(c.mainDir(fsPath), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, gone(fsPath)
	}
	if err != nil {
		return 0, fmt.Errorf("id of cgroup %s: %w", fsPath, err)
	}
	return st.Ino, nil
}

// kernfsHandle is the type of a file handle that holds a kernfs id (FILEID_KERNFS).
const kernfsHandle = 0xfe

// Path is the inverse of ID. It is pod.ErrNotFound for a cgroup that is gone. It
// needs CAP_DAC_READ_SEARCH.
func (c *Cgroups) Path(id uint64) (string, error) {
	root := c.mainDir("/")
	mount, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("path of cgroup %d: open %s: %w", id, root, err)
	}
	defer unix.Close(mount)
	handle := unix.NewFileHandle(kernfsHandle, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_PATH|unix.O_CLOEXEC)
	if errors.Is(err, unix.ESTALE) {
		return "", fmt.Errorf("path of cgroup %d: %w", id, pod.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("path of cgroup %d: %w", id, err)
	}
	defer unix.Close(fd)
	dir, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", fmt.Errorf("path of cgroup %d: %w", id, err)
	}
	path, below := strings.CutPrefix(dir, root)
	if !below || strings.HasSuffix(path, " (deleted)") {
		return "", fmt.Errorf("path of cgroup %d: %w", id, pod.ErrNotFound)
	}
	if path == "" {
		path = "/"
	}
	return path, nil
}
