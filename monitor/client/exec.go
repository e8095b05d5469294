package client

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/enter"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// ExecOptions describe a process to start in the container.
type ExecOptions struct {
	// Process is the OCI process, as JSON.
	Process []byte
	// Terminal gives the process a pty: Stdout then carries all output, Stderr nothing.
	Terminal bool
	// Stdin, Stdout and Stderr say which streams the caller wants; the others are /dev/null.
	Stdin, Stdout, Stderr bool
	// Traceparent is the parent of monitor.exec; empty means that of ctx (WithTraceparent).
	Traceparent string
	// Enterer starts what needs no libcontainer; nil leaves all to the launcher.
	Enterer *Enterer
}

// Exec starts a process and returns when its program has been executed. A program
// that cannot be is a *launch.Error with KindNotFound (127) or KindNotExecutable
// (126). When ctx ends first, the process is killed. The process's streams go past
// the monitor: their ends are in this process.
func (m *Monitor) Exec(ctx context.Context, o ExecOptions) (*Session, error) {
	s, err := m.exec(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", m.info.ID, err)
	}
	return s, nil
}

func (m *Monitor) exec(ctx context.Context, o ExecOptions) (_ *Session, err error) {
	if s, err := m.enter(ctx, o); err != errDeclined {
		return s, err
	}
	request, err := m.execRequest(o.Process)
	if err != nil {
		return nil, err
	}
	p := pipes{theirs: []int{request}}
	s, flags, err := m.newSession(&p, o.Terminal, o.Stdin, o.Stdout, o.Stderr)
	if err != nil {
		p.close()
		return nil, err
	}
	fds, err := s.open(ctx, &wire.Message{Kind: wire.Exec, Flags: flags, Traceparent: o.Traceparent}, &p)
	if err != nil {
		p.close()
		return nil, err
	}
	if o.Terminal {
		if len(fds) != 1 {
			closeAll(fds)
			s.Close()
			return nil, fmt.Errorf("got %d descriptors for a terminal", len(fds))
		}
		s.useTerminal(fds[0], o)
	}
	return s, nil
}

// execRequest is the creation's launch request turned into one for OpExec, in a memfd.
func (m *Monitor) execRequest(process []byte) (int, error) {
	raw, err := readBounded(m.info.Request, 16<<20)
	if err != nil {
		return -1, fmt.Errorf("read launch request: %w", err)
	}
	var r launch.Request
	if err := json.Unmarshal(raw, &r); err != nil {
		return -1, fmt.Errorf("read launch request %s: %w", m.info.Request, err)
	}
	r.Op, r.Process = launch.OpExec, process
	if raw, err = json.Marshal(r); err != nil {
		return -1, fmt.Errorf("encode launch request: %w", err)
	}
	return enter.Memory("launch-exec", raw)
}

// AttachOptions say which streams of the container a client wants.
type AttachOptions struct{ Stdin, Stdout, Stderr bool }

// Attach joins a client to the container's streams from this moment on. A client
// that reads too slowly misses output, with a marker in its place; one that reads
// nothing while output waits is disconnected, and Wait says so. Neither holds up the
// container.
func (m *Monitor) Attach(ctx context.Context, o AttachOptions) (*Session, error) {
	var p pipes
	s, flags, err := m.newSession(&p, false, o.Stdin, o.Stdout, o.Stderr)
	if err == nil {
		s.attach = true
		_, err = s.open(ctx, &wire.Message{Kind: wire.Attach, Flags: flags}, &p)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("attach to container %s: %w", m.info.ID, err)
	}
	return s, nil
}

// newSession makes the streams and the flags that name them.
func (m *Monitor) newSession(p *pipes, terminal, stdin, stdout, stderr bool) (*Session, uint32, error) {
	s := &Session{m: m, done: make(chan struct{}), stdin: noInput{}, stdout: newOutput(nil), stderr: newOutput(nil)}
	if terminal {
		return s, wire.FlagTerminal, nil
	}
	var flags uint32
	if stdin {
		f, err := p.add(true)
		if err != nil {
			return nil, 0, err
		}
		s.stdin, flags = f, flags|wire.FlagStdin
	}
	for _, want := range []struct {
		on   bool
		flag uint32
		out  **output
	}{{stdout, wire.FlagStdout, &s.stdout}, {stderr, wire.FlagStderr, &s.stderr}} {
		if !want.on {
			continue
		}
		f, err := p.add(false)
		if err != nil {
			return nil, 0, err
		}
		*want.out, flags = newOutput(f), flags|want.flag
	}
	return s, flags, nil
}

// open sends the request that begins the session; its number is the session's.
func (s *Session) open(ctx context.Context, msg *wire.Message, p *pipes) ([]int, error) {
	if msg.Traceparent == "" {
		msg.Traceparent = traceparent(ctx)
	}
	s.m.mu.Lock()
	c := s.m.conn
	s.m.mu.Unlock()
	id, ch, err := c.reserve()
	if err != nil {
		return nil, err
	}
	msg.ID, s.id = id, id
	s.m.mu.Lock()
	s.m.sessions[id] = s // before the request: the process may end at once
	s.m.mu.Unlock()
	reply, fds, err := c.finish(ctx, msg, ch, p.theirs)
	p.sent()
	if err == nil && reply.Flags&wire.FlagError != 0 {
		closeAll(fds)
		err = replyError(reply.Body)
	}
	if err != nil {
		s.m.mu.Lock()
		delete(s.m.sessions, id)
		s.m.mu.Unlock()
		if ctx.Err() != nil {
			c.send(&wire.Message{Kind: wire.KillSession, Session: id}, nil) // answered to no one
		}
		return nil, err
	}
	if !s.attach {
		r, err := launch.ParseReply(string(reply.Body))
		if err == nil {
			s.pid = r.PID
		}
	}
	return fds, nil
}

// useTerminal makes the pty's master the session's streams.
func (s *Session) useTerminal(fd int, o ExecOptions) {
	syscall.SetNonblock(fd, true)
	s.master = os.NewFile(uintptr(fd), "pty master")
	if o.Stdin {
		s.stdin = ttyInput{s.master}
	}
	s.stdout.use(s.master)
}
