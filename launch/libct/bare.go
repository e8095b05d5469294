package libct

import (
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch/enter"
)

// findCgroups has package cgroups find the hierarchies of cgroup v1 in the request's bare mount
// namespace, beside the reading of the specification: it reads the mounts of the thread that
// asks first, once for the process, and the host has as many as there are containers. The
// answer is whether there is such a namespace; whoever needs hierarchies has to wait for it.
func (j *job) findCgroups() <-chan bool {
	found := make(chan bool, 1)
	if j.request.Bare == "" {
		found <- false
		return found
	}
	go func() { found <- findCgroupsFrom(j.request.Bare) }()
	return found
}

func findCgroupsFrom(path string) bool {
	runtime.LockOSThread()              // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() { // it cannot end, and /proc/self speaks of it
		defer runtime.UnlockOSThread()
		found := make(chan bool, 1)
		go func() { found <- findCgroupsFrom(path) }()
		return <-found
	}
	if enterMounts(path) != nil { // a daemon that has died has none any more
		return false
	}
	if !cgroups.IsCgroup2UnifiedMode() {
		_, _ = cgroups.GetCgroupMounts(false) // whose error is kept as well
	}
	return true
}

// enterMounts moves the calling thread, and what it has of directories, into the namespace at path.
func enterMounts(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNS)
}

// bareSuits tells whether the container comes out of a bare namespace as it would of the host's:
// nothing that is bound is found in what is made for it, and no mount stays the host's peer.
func bareSuits(b *enter.Birth) bool {
	for _, op := range b.Ops {
		if op.Kind == enter.OpBind && (op.Source == b.Root || strings.HasPrefix(op.Source, b.Root+"/")) {
			return false
		}
	}
	return b.Propagation&unix.MS_REC != 0
}
