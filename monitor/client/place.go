package client

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// startIn is os.StartProcess of a process that is born in cgroups: directories separated
// by ':', of any hierarchy, one each; empty is the caller's own.
//
// To move a process that runs waits for a grace period of RCU, 10 to 15 ms in each
// hierarchy. A v2 cgroup is therefore given to clone3 (CLONE_INTO_CGROUP, Linux 5.7); in
// v1, where threads of one process may be in different cgroups, a thread of this process
// moves itself, which does not wait, forks, and ends.
func startIn(cgroups, program string, args []string, attr *os.ProcAttr) (*os.Process, error) {
	var tasks []string
	for dir := range strings.SplitSeq(cgroups, ":") {
		if dir == "" {
			continue
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("place monitor in cgroup %s: %w", dir, err)
		}
		defer unix.Close(fd)
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err != nil {
			return nil, fmt.Errorf("place monitor in cgroup %s: %w", dir, err)
		}
		if fs.Type == unix.CGROUP2_SUPER_MAGIC {
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
		} else {
			tasks = append(tasks, dir+"/tasks")
		}
	}
	if len(tasks) == 0 {
		return os.StartProcess(program, args, attr)
	}
	type started struct {
		process *os.Process
		err     error
	}
	answer := make(chan started, 1)
	go onThread(func() { // answered below
		var err error
		for _, file := range tasks {
			err = errors.Join(err, os.WriteFile(file, []byte("0"), 0))
		}
		if err != nil {
			answer <- started{err: fmt.Errorf("place monitor in cgroup: %w", err)}
			return
		}
		p, err := os.StartProcess(program, args, attr)
		answer <- started{p, err}
	})
	a := <-answer
	return a.process, a.err
}

// onThread runs fn on a thread that ends with it. The first thread of the process never
// ends, and stands for the process in /proc: it is not taken.
func onThread(fn func()) {
	runtime.LockOSThread() // never unlocked, but for the first thread: a thread ends with its goroutine
	if unix.Gettid() != unix.Getpid() {
		fn()
		return
	}
	done := make(chan struct{})
	go func() { // on another thread, this one is taken
		defer close(done)
		runtime.LockOSThread()
		fn()
	}()
	<-done
	runtime.UnlockOSThread()
}
