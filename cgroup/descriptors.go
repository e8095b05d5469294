package cgroup

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxCountedProcs bounds the processes whose open files are counted for one reading;
// above it the figure is left out.
const maxCountedProcs = 4096

// descriptorsOf counts the open file descriptors of processes. A process that has gone
// has none; one that may not be looked at makes the sum unknown.
func descriptorsOf(pids []int) (n uint64, ok bool) {
	if len(pids) > maxCountedProcs {
		return 0, false
	}
	for _, pid := range pids {
		own, err := descriptors(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
			return 0, false
		}
		n += own
	}
	return n, true
}

// descriptors counts the entries of a /proc/PID/fd. Since Linux 6.2 the directory's
// size is their number (proc: report open files as size in stat() for /proc/pid/fd);
// before, and for none, it is zero.
func descriptors(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, err
	}
	if st.Size > 0 {
		return uint64(st.Size), nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	return uint64(len(names)), err
}
