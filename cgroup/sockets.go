package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxCountedFiles bounds the open files that are looked at for one reading, a
// microsecond and a half each; above it the figure is left out.
const maxCountedFiles = 4096

// socketLink is how the link of a socket in /proc/PID/fd begins (net/socket.c, sockfs_dname).
const socketLink = "socket:["

// socketsOf counts the sockets that processes have open. A process that has gone has
// none; one that may not be looked at makes the sum unknown, and so do more than
// maxCountedFiles, which may have been opened since they were counted.
func socketsOf(pids []int) (n uint64, ok bool) {
	left := maxCountedFiles
	for _, pid := range pids {
		own, looked, err := sockets(fmt.Sprintf("/proc/%d/fd", pid), left)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
			return 0, false
		}
		n, left = n+own, left-looked
		if left < 0 {
			return 0, false
		}
	}
	return n, true
}

// sockets counts the sockets in a /proc/PID/fd, of at most limit files; looked is more
// when there are more.
func sockets(dir string, limit int) (n uint64, looked int, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	names, err := f.Readdirnames(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	if len(names) > limit {
		return 0, len(names), nil
	}
	// The link is read and not followed: a file system that hangs would hold whoever asks.
	// A file's path begins with a slash, so that none looks like a socket (fs/d_path.c).
	text := make([]byte, len(socketLink))
	for _, name := range names {
		if size, err := unix.Readlinkat(int(f.Fd()), name, text); err == nil && string(text[:size]) == socketLink {
			n++
		} // else it was closed meanwhile
	}
	return n, len(names), nil
}
