package client

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// drainGrace is how long a stream waits for more after its process has ended: only
// a process left behind can still write then.
const drainGrace = 250 * time.Millisecond

// drainLimit bounds what is read after drainGrace, in bytes: what a pipe can hold.
const drainLimit = 1 << 20

// output is the reading end of a stream.
type output struct {
	mu      sync.Mutex // guards file and bounded
	file    *os.File   // nil for a stream that was not asked for
	bounded bool

	// The next two are the reader's.
	left int  // bytes that may still be read after the deadline
	over bool // the end was reached
}

func newOutput(f *os.File) *output { return &output{file: f, left: drainLimit} }

// use makes f the stream, for a terminal that comes after the session has begun.
func (o *output) use(f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file = f
	if o.bounded {
		f.SetReadDeadline(time.Now().Add(drainGrace))
	}
}

func (o *output) stream() *os.File {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file
}

// Read returns io.EOF at the end of the stream, or of the draining, and closes it
// then; os.ErrClosed when the session was closed before its end.
func (o *output) Read(p []byte) (int, error) {
	file := o.stream()
	if file == nil || o.over {
		return 0, io.EOF
	}
	n, err := file.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = o.readRest(file, p)
	}
	if errors.Is(err, syscall.EIO) { // a pty's master, once nothing holds the other side
		err = io.EOF
	}
	if err == io.EOF {
		o.over = true
		file.Close()
	}
	return n, err
}

// readRest takes what is there without waiting, up to the limit.
func (o *output) readRest(file *os.File, p []byte) (n int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, io.EOF
	}
	p = p[:min(len(p), o.left)]
	if err := raw.Control(func(fd uintptr) { n, err = syscall.Read(int(fd), p) }); err != nil || n <= 0 {
		return 0, io.EOF
	}
	o.left -= n
	return n, nil
}

// bound is called when the process has ended.
func (o *output) bound() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil && !o.bounded {
		o.file.SetReadDeadline(time.Now().Add(drainGrace))
	}
	o.bounded = true
}

func (o *output) close() {
	if f := o.stream(); f != nil {
		f.Close()
	}
}

// noInput is the standard input of a session that has none.
type noInput struct{}

func (noInput) Write([]byte) (int, error) { return 0, os.ErrClosed }
func (noInput) Close() error              { return nil }

// ttyInput writes to a terminal; its half close is the terminal's end-of-file character.
type ttyInput struct{ master *os.File }

func (t ttyInput) Write(p []byte) (int, error) { return t.master.Write(p) }

func (t ttyInput) Close() error {
	_, err := t.master.Write([]byte{4}) // VEOF of a fresh terminal
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// pipes makes the streams of a session: one end each for the session, the other to
// send to the monitor.
type pipes struct {
	theirs []int
	ours   []*os.File
}

// add makes a pipe; input says that the session writes it.
func (p *pipes) add(input bool) (*os.File, error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil { // not os.Pipe: the process must not get a non-blocking end
		return nil, err
	}
	mine, other := ends[0], ends[1]
	if input {
		mine, other = ends[1], ends[0]
	}
	syscall.SetNonblock(mine, true)
	f := os.NewFile(uintptr(mine), "session stream")
	p.theirs = append(p.theirs, other)
	p.ours = append(p.ours, f)
	return f, nil
}

// sent closes the monitor's ends once it has them, or will never get them.
func (p *pipes) sent() {
	closeAll(p.theirs)
	p.theirs = nil
}

func (p *pipes) close() {
	p.sent()
	for _, f := range p.ours {
		f.Close()
	}
}
