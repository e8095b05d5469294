package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Session is a process that Exec started, or a client that Attach joined to the
// container's own streams. It is safe for concurrent use; each stream has one user.
type Session struct {
	m      *Monitor
	id     uint32
	attach bool
	pid    int // of an exec's process; set before the session is handed out

	stdin          io.WriteCloser
	stdout, stderr *output
	master         *os.File // of an exec session with a terminal; also behind stdin and stdout

	done chan struct{}
	once sync.Once
	code int32 // set before done is closed, as err
	err  error
}

// PID is that of the process that Exec started, in the pid namespace of this one, 0 for an
// attach. The process may have ended, and the number be another's.
func (s *Session) PID() int { return s.pid }

// Stdin is the session's standard input; Close is the half close that the other side
// sees as end of file. Without standard input it refuses writes.
func (s *Session) Stdin() io.WriteCloser { return s.stdin }

// Stdout ends with the session, also when a process left behind holds the stream
// open: after the exit it gives what is there and then ends.
func (s *Session) Stdout() io.Reader { return s.stdout }

// Stderr is as Stdout; it is empty for sessions with a terminal.
func (s *Session) Stderr() io.Reader { return s.stderr }

// Wait returns the exit code of the exec's process, or of the container for an
// attach. An attached client that was disconnected, and a session whose monitor is
// gone, get an error and no code.
func (s *Session) Wait(ctx context.Context) (int32, error) {
	select {
	case <-s.done:
		return s.code, s.err
	case <-ctx.Done():
		return -1, ctx.Err()
	}
}

// Kill ends the process of an exec session and all its descendants, and waits for their
// end for at most two seconds. It is no error when they have ended already. An attach session is closed by it.
func (s *Session) Kill(ctx context.Context) error {
	if s.attach {
		return s.Close()
	}
	_, _, err := s.m.request(ctx, &wire.Message{Kind: wire.KillSession, Session: s.id}, nil)
	if err != nil && !errors.Is(err, ErrLost) {
		return fmt.Errorf("kill exec in container %s: %w", s.m.info.ID, err)
	}
	return nil
}

// Resize sets the size of the session's terminal.
func (s *Session) Resize(width, height uint16) error {
	if s.master == nil {
		ctx, cancel := context.WithTimeout(context.Background(), abortGrace)
		defer cancel()
		return s.m.Resize(ctx, width, height)
	}
	size := [4]uint16{height, width}
	raw, err := s.master.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// Close ends the session: the monitor forgets it, a process that still runs loses its
// streams and is not killed. Output of a session that has ended by itself can still be
// read to its end, which is bounded; the streams close there.
func (s *Session) Close() error {
	s.m.mu.Lock()
	_, open := s.m.sessions[s.id]
	delete(s.m.sessions, s.id)
	c := s.m.conn
	s.m.mu.Unlock()
	if open {
		c.send(&wire.Message{Kind: wire.CloseSession, Session: s.id}, nil) // a hint: closed streams say the same
	}
	if s.master == nil {
		s.stdin.Close()
	}
	select {
	case <-s.done:
	default:
		s.stdout.close()
		s.stderr.close()
	}
	s.ended(-1, os.ErrClosed)
	return nil
}

// ended sets the result once and bounds the draining of the streams.
func (s *Session) ended(code int32, err error) {
	s.once.Do(func() {
		s.code, s.err = code, err
		if err != nil {
			s.code = -1
		}
		s.stdout.bound()
		s.stderr.bound()
		close(s.done)
	})
}
