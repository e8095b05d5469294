package lifecycle

import (
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/cgroup"
)

// FileSystem is what the file system below writable layers could hold.
type FileSystem struct {
	// Device is the block device, or the numbers of one without a name.
	Device string
	Bytes  uint64
	// Inodes is 0 on file systems that make them as needed.
	Inodes, FreeInodes uint64
}

// fileSystemAt returns nil where the kernel does not say.
func fileSystemAt(path string) *FileSystem {
	var fs unix.Statfs_t
	var file unix.Stat_t
	if unix.Statfs(path, &fs) != nil || unix.Stat(path, &file) != nil {
		return nil
	}
	return &FileSystem{
		Device: cgroup.DeviceName(uint64(unix.Major(file.Dev)), uint64(unix.Minor(file.Dev))),
		Bytes:  fs.Blocks * uint64(fs.Bsize), Inodes: fs.Files, FreeInodes: fs.Ffree,
	}
}
