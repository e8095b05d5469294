package network

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an OS thread of its own that is thrown away afterwards: fn
// may unshare or enter namespaces, and no other goroutine ever runs there.
//
// The main thread is never used. It cannot be thrown away, and /proc/self speaks of it.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread with the goroutine
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onThread(fn) // holds the main thread, so the next one is another
			return
		}
		done <- fn()
	}()
	return <-done
}

// enter moves the calling thread into the namespace pinned at path. The kernel
// refuses a path that is no namespace of that kind.
func enter(path string, kind int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, kind); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return nil
}

// inNetNS runs fn on a thread inside the network namespace at path; an empty path
// is the caller's own.
func inNetNS(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	return onThread(func() error {
		if err := enter(path, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// isNamespace says whether path is a pinned or linked namespace that can be entered.
// An ordinary file, as a crash between creating and mounting a pin leaves it, is not.
func isNamespace(path string) bool {
	if path == "" {
		return false
	}
	var fs unix.Statfs_t
	for {
		err := unix.Statfs(path, &fs)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && fs.Type == unix.NSFS_MAGIC
		}
	}
}
