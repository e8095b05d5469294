package lifecycle

import (
	"sync"
	"time"

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

// fileSystemFor is how long what was read of the file system is good for: those who ask
// ask for every container in turn.
const fileSystemFor = time.Second

// fileSystem remembers the file system of writable layers. The zero value is ready.
type fileSystem struct {
	mu    sync.Mutex // guards the fields below
	read  time.Time
	value *FileSystem
}

// at is what fileSystemAt told of path not long before now. There is one path.
func (f *fileSystem) at(path string, now time.Time) *FileSystem {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read.IsZero() || now.Sub(f.read) > fileSystemFor {
		f.value, f.read = fileSystemAt(path), now
	}
	return f.value
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
