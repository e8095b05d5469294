package monitor

import (
	"bytes"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

var skipMark = regexp.MustCompile(`\r\n\[vitrine: (\d+) bytes are not shown, the client reads too slowly\]\r\n`)

// property: what a client reads, its marks replaced by as many bytes as they name, is
// the output from its beginning; what is missing at the end is still counted as skipped.
// script says how much is written and read in turn.
func FuzzAttach(f *testing.F) {
	f.Add([]byte{255, 255, 255, 0, 7, 200}, uint16(4096))
	f.Add([]byte{1, 2, 3, 4}, uint16(1))
	f.Add(bytes.Repeat([]byte{255, 255, 3}, 40), uint16(65535))
	f.Fuzz(func(t *testing.T, script []byte, size uint16) {
		if len(script) > 400 || size == 0 {
			return
		}
		m := &monitor{}
		m.prime()
		if err := m.loop.open(); err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(m.epfd)
		var pipe [2]int
		if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(pipe[0])
		c := &client{}
		c.prime(m)
		c.out[0].open(pipe[1])
		syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(pipe[1]), fSetPipeSize, 4096) // soon full
		m.clients = []*client{c}
		var wrote, got []byte
		buf := make([]byte, 1<<16)
		for i, op := range script {
			if i%2 == 0 {
				piece := bytes.Repeat([]byte{byte('a' + len(wrote)%23)}, 1+int(op)*int(size)/255)
				wrote = append(wrote, piece...)
				c.show(&m.streams[0], piece)
				continue
			}
			n, _ := read(pipe[0], buf[:1+int(op)*32])
			got = append(got, buf[:n]...)
			c.out[0].ready(syscall.EPOLLOUT)
		}
		left := int(c.out[0].skipped)
		m.drop(&c.out[0].fd)
		for {
			n, _ := read(pipe[0], buf)
			if n == 0 {
				break
			}
			got = append(got, buf[:n]...)
		}
		at := 0
		for len(got) > 0 {
			mark, skipped := skipMark.FindSubmatchIndex(got), 0
			text := got
			if mark != nil {
				text = got[:mark[0]]
				skipped, _ = strconv.Atoi(string(got[mark[2]:mark[3]]))
				got = got[mark[1]:]
			} else {
				got = nil
			}
			if at+len(text)+skipped > len(wrote) || !bytes.Equal(text, wrote[at:at+len(text)]) {
				t.Fatalf("at %d of %d: not what was written", at, len(wrote))
			}
			at += len(text) + skipped
		}
		if at+left != len(wrote) || uint64(len(wrote)) < m.counts.AttachSkipped {
			t.Fatalf("%d bytes written, %d accounted for and %d skipped at the end", len(wrote), at, left)
		}
	})
}
