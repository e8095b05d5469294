package client_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/monitor/client"
)

// The kernel counts the pipes of a user, so one that is wide for nothing is taken from
// those that containers of this user make.
func TestPipeIsWideOnlyWhileItsStreamIsInAHurry(t *testing.T) {
	const narrow, wide = 64 << 10, 1 << 20
	spare, room, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.FcntlInt(spare.Fd(), unix.F_SETPIPE_SZ, wide)
	spare.Close()
	room.Close()
	if errors.Is(err, unix.EPERM) {
		t.Skip("the user's pipes have fs.pipe-user-pages-soft pages, and CAP_SYS_RESOURCE is missing")
	}
	b := newBox(t, "sh", "-c", "read x; yes "+strings.Repeat("x", 99)+" & read x; kill $!; read x")
	b.spawn.Stdin = true
	b.start()
	s := b.attach(client.AttachOptions{Stdin: true})
	size := func() int {
		pipe, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", b.m.PID()), os.O_WRONLY, 0)
		b.must(err)
		defer pipe.Close()
		n, err := unix.FcntlInt(pipe.Fd(), unix.F_GETPIPE_SZ, 0)
		b.must(err)
		return n
	}
	if n := size(); n != narrow {
		t.Errorf("%d bytes before anything was written", n)
	}
	fmt.Fprintln(s.Stdin(), "on")
	b.eventually("the pipe is wide", func() bool { return size() == wide })
	fmt.Fprintln(s.Stdin(), "off")
	b.eventually("the pipe is narrow again", func() bool { return size() == narrow })
}
