package logfile

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// hungUp is a descriptor whose writes fail with EIO: a terminal's end whose master is closed.
func hungUp(t *testing.T) int {
	t.Helper()
	master, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var unlock, number int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(master), request, uintptr(unsafe.Pointer(arg))); e != 0 {
			t.Fatal(e)
		}
	}
	fd, err := syscall.Open(fmt.Sprintf("/dev/pts/%d", number), syscall.O_WRONLY|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Close(master)
	return fd
}

func TestWriteErrorIsCountedAndMarkedInTheStreamThatLost(t *testing.T) {
	w, path := open(t, 10)
	out, errs := NewStream(false), NewStream(true)
	w.Write(out, 1, []byte("0123456789cut"))
	w.FlushPartial(out, 1)
	w.Write(errs, 1, []byte("fine\n"))
	healthy := w.fd
	w.fd = hungUp(t)
	w.Write(out, 2, []byte(" here\nwhole\n"))
	w.FlushPartial(out, 2)
	if w.LastError != syscall.EIO || w.Errors == 0 || w.Dropped != uint64(len(" here\nwhole\n")) || w.DroppedLines != 2 {
		t.Fatalf("counters %+v", w.Counters)
	}
	syscall.Close(w.fd)
	w.fd = healthy
	w.Write(errs, 3, []byte("fine too\n"))
	w.Write(out, 3, []byte("after\n"))
	got := reassemble(t, read(t, path), 100)
	if want := "0123456789cut[vitrine: 12 bytes in 2 lines are missing here: errno 5]\nafter\n"; got["stdout"] != want || got["stderr"] != "fine\nfine too\n" {
		t.Errorf("stdout %q, stderr %q", got["stdout"], got["stderr"])
	}
}

func TestRemovedDirectoryLosesNothingBeforeItsRotation(t *testing.T) {
	dir := t.TempDir() + "/logs"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := Open(dir+"/0.log", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	kept, err := os.Open(dir + "/0.log")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	os.RemoveAll(dir)
	s := NewStream(false)
	w.Write(s, 1, []byte("into the removed file\n"))
	if err := w.Reopen(); err == nil {
		t.Error("reopened in a directory that is not there")
	}
	w.Write(s, 1, []byte("still there\n"))
	raw := make([]byte, 1000)
	n, _ := kept.Read(raw)
	if w.Dropped != 0 || !strings.HasSuffix(string(raw[:n]), "still there\n") {
		t.Errorf("%q, counters %+v", raw[:n], w.Counters)
	}
}
