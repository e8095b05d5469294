package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

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
// when there are more. Descriptors are low numbers nearly always: where the directory
// says how many there are (see descriptors), they are tried one after the other, which
// costs a third of listing them.
func sockets(dir string, limit int) (n uint64, looked int, err error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	count := int(st.Size)
	if count > limit {
		return 0, count, nil
	}
	for number := 0; looked < count && number < count+maxGap; number++ {
		if isSocket, there := socketAt(fd, strconv.Itoa(number)); there {
			looked++
			if isSocket {
				n++
			}
		}
	}
	if count > 0 && looked == count {
		return n, looked, nil
	}
	return listedSockets(dir, limit)
}

// maxGap is how many numbers without a file are tried before the files are listed.
const maxGap = 16

// listedSockets is sockets for whatever numbers the files have, and for kernels that do
// not say how many there are.
func listedSockets(dir string, limit int) (n uint64, looked int, err error) {
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
	for _, name := range names {
		if isSocket, _ := socketAt(int(f.Fd()), name); isSocket {
			n++
		}
	}
	return n, len(names), nil
}

// socketAt reads one link and does not follow it: a file system that hangs would hold
// whoever asks. A file's path begins with a slash, so that none looks like a socket
// (fs/d_path.c).
func socketAt(dir int, name string) (isSocket, there bool) {
	var text [len(socketLink)]byte
	size, err := unix.Readlinkat(dir, name, text[:])
	return err == nil && string(text[:size]) == socketLink, err == nil
}
