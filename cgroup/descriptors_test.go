package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenFilesOfAProcessAreCounted(t *testing.T) {
	before, ok := descriptorsOf([]int{os.Getpid()})
	if !ok || before < 3 {
		t.Fatalf("%d, %v", before, ok)
	}
	for range 5 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if after, ok := descriptorsOf([]int{os.Getpid(), 1 << 30}); !ok || after != before+5 {
		t.Errorf("%d files open, %v; five more than %d are", after, ok, before)
	}
	if _, ok := descriptorsOf(make([]int, maxCountedProcs+1)); ok {
		t.Error("the bound does not hold")
	}
}

func TestSocketsOfAProcessAreCounted(t *testing.T) {
	before, ok := socketsOf([]int{os.Getpid()})
	if !ok {
		t.Fatal("sockets of this process are not told")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "socket:[1]")) // no socket
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if after, ok := socketsOf([]int{os.Getpid(), 1 << 30}); !ok || after != before+2 {
		t.Errorf("%d sockets, %v; two more than %d are open", after, ok, before)
	}
	high, err := unix.FcntlInt(uintptr(pair[0]), unix.F_DUPFD_CLOEXEC, 900) // found by listing
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	if after, ok := socketsOf([]int{os.Getpid()}); !ok || after != before+3 {
		t.Errorf("%d sockets, %v; three more than %d are open", after, ok, before)
	}
	for limit, whole := range map[int]bool{1: false, maxCountedFiles: true} {
		if _, looked, err := sockets("/proc/self/fd", limit); err != nil || (looked <= limit) != whole {
			t.Errorf("%d files looked at of at most %d, %v", looked, limit, err)
		}
	}
}

func TestADeviceWithoutANameKeepsItsNumbers(t *testing.T) {
	for range 2 {
		if got := DeviceName(0, 1<<19); got != "0:524288" {
			t.Errorf("%q", got)
		}
	}
}
