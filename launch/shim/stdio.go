package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// flushBound is how long after a process's end its shim may go on writing. A process
// left behind that holds the stream open would make it longer.
const flushBound = 10 * time.Second

// stdio are the streams as the shim is told them: paths of fifos.
//
// Output goes past the keeper: the path is that of its own descriptor, through which
// the shim opens the monitor's pipe itself. Input is carried over, because a shim keeps
// the fifo open and learns of the end by CloseIO; a terminal's both ways are.
type stdio struct {
	terminal              bool
	stdin, stdout, stderr string
	in, out               *os.File
	carried               sync.WaitGroup // the terminal's output
	writers               []int          // read ends of the output pipes, to see that all writers are gone
}

// openStdio makes the fifos that are needed, of those that do not exist yet.
func (t *task) openStdio(terminal bool) (*stdio, error) {
	s := &stdio{terminal: terminal}
	var err error
	if terminal {
		if s.stdin, s.in, err = t.fifo("in"); err == nil {
			s.stdout, s.out, err = t.fifo("out")
		}
		return s, err
	}
	if isPipe(0) {
		if s.stdin, s.in, err = t.fifo("in"); err != nil {
			return nil, err
		}
	}
	for fd, path := range map[int]*string{1: &s.stdout, 2: &s.stderr} {
		if isPipe(fd) {
			*path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
		}
	}
	return s, nil
}

// fifo makes a fifo and opens it both ways, so that no open blocks.
func (t *task) fifo(name string) (string, *os.File, error) {
	path := t.path(t.exec + name)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", nil, fmt.Errorf("make fifo %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	return path, f, err
}

func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// carry begins to move what the keeper moves itself. It ends with the process.
func (t *task) carry(s *stdio) {
	if s.in != nil {
		go func() { // ends with the process: the keeper's own end does not wait for input
			_, _ = io.Copy(s.in, os.Stdin)
			_, _ = t.call("CloseIO", t.ids().bool(3, true), callBound)
			s.in.Close()
		}()
	}
	if s.terminal {
		// From now on only the shim holds the write end, so that the end of file comes.
		r, err := os.OpenFile(s.stdout, os.O_RDONLY|unix.O_NONBLOCK, 0)
		s.out.Close()
		if err != nil {
			return
		}
		s.carried.Add(1)
		go func() {
			defer s.carried.Done()
			_, _ = io.Copy(os.Stdout, r)
		}()
	}
}

// flush returns when the shim has written all that the process has, or after flushBound.
func (s *stdio) flush() {
	if s.terminal {
		done := make(chan struct{})
		go func() { s.carried.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(flushBound):
		}
		return
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for fd, path := range map[int]string{1: s.stdout, 2: s.stderr} {
		if path == "" {
			continue
		}
		r, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			s.writers = append(s.writers, r)
		}
	}
	for _, fd := range []int{1, 2} { // this process is a writer too
		_ = unix.Dup3(null, fd, 0)
	}
	deadline := time.Now().Add(flushBound)
	for _, r := range s.writers {
		pollFor(r, unix.POLLHUP, time.Until(deadline))
	}
}

// removeStdio removes the fifos of a process in the container.
func (t *task) removeStdio() {
	for _, name := range []string{"in", "out"} {
		_ = os.Remove(t.path(t.exec + name))
	}
}
