package client

import (
	"context"
	"fmt"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Connect finds the monitor of the container whose directory is dir, after a restart
// of the daemon. The error wraps os.ErrNotExist or syscall.ECONNREFUSED when none
// lives. A monitor may still be there when its container has ended; Exited is closed then.
func Connect(ctx context.Context, dir string) (*Monitor, error) {
	c, err := dial(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("connect to monitor in %s: %w", dir, err)
	}
	m, err := newMonitor(dir, c, nil)
	if err != nil {
		return nil, fmt.Errorf("connect to monitor in %s: %w", dir, err)
	}
	if m.info, err = m.hello(ctx, c); err != nil {
		m.Close()
		return nil, fmt.Errorf("connect to monitor in %s: %w", dir, err)
	}
	m.lookAtLog() // of what nobody was told
	return m, nil
}

// hello learns what the monitor is and whether its container has ended.
func (m *Monitor) hello(ctx context.Context, c *conn) (info wire.Info, err error) {
	reply, fds, err := c.call(ctx, &wire.Message{Kind: wire.Hello, Flags: wire.FlagLend}, nil)
	if err != nil {
		return info, err
	}
	m.borrow(reply.Flags, fds)
	if reply.Flags&wire.FlagError != 0 {
		return info, replyError(reply.Body)
	}
	if err := info.Parse(reply.Body); err != nil {
		return info, err
	}
	m.knowInit(info.Init)
	if info.Exited {
		if e, err := ReadExit(m.dir); err == nil {
			m.setExit(e)
		}
	}
	return info, nil
}

// begin serves a connection.
func (m *Monitor) begin(c *conn) error {
	m.readers.Add(1)
	err := c.begin(m.event, m.ended)
	if err != nil {
		m.readers.Done()
	}
	return err
}

// ended finds out what the end of a connection means.
func (m *Monitor) ended() {
	defer m.readers.Done()
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed || m.again() {
		return
	}
	if e, err := ReadExit(m.dir); err == nil {
		m.setExit(e)
	} else {
		close(m.lost)
		m.tell()
	}
	m.endSessions(ErrLost)
}

// again connects anew: a monitor closes the connection of a daemon that did not read.
// It reports whether someone else serves the monitor now.
func (m *Monitor) again() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // the daemon's own affair, no request's
	defer cancel()
	c, err := dial(ctx, m.dir)
	if err != nil {
		return false
	}
	m.endSessions(ErrLost) // they belonged to the old connection
	m.mu.Lock()
	m.conn = c
	closed := m.closed
	m.mu.Unlock()
	if closed {
		c.shut()
		return true
	}
	if m.begin(c) != nil {
		return false
	}
	m.hello(ctx, c) // when it fails, the new reader finds out why
	return true
}

func (m *Monitor) event(msg wire.Message, fds []int) {
	if msg.Kind == wire.Listener && len(fds) == 1 {
		m.borrowListener(msg.Session, fds[0])
		return
	}
	closeAll(fds)
	switch msg.Kind {
	case wire.ListenerEnded:
		m.borrowListener(msg.Session, -1)
	case wire.Notified:
		select {
		case m.notified <- struct{}{}:
		default: // somebody will look
		}
		m.tell()
	case wire.Stalled:
		m.lookAtLog()
	case wire.Exited:
		if e, err := wire.ParseExit(string(msg.Body)); err == nil {
			m.setExit(e)
		}
	case wire.StdinClosed:
		m.mu.Lock()
		closeOne(&m.lent.stdin)
		t, ward := m.trustee, m.ward
		m.mu.Unlock()
		t.revoke(ward, wire.FlagStdin) // a trustee that is gone holds nothing
	case wire.SessionEnded:
		m.mu.Lock()
		s := m.sessions[msg.Session]
		delete(m.sessions, msg.Session)
		m.mu.Unlock()
		if s != nil {
			s.ended(wire.Exit{Status: msg.Status}.Code(), notice(msg.Body))
		}
	}
}

func notice(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	if r, err := launch.ParseReply(string(body)); err == nil && r.Error != nil {
		return r.Error
	}
	return wire.ErrMalformed
}

func (m *Monitor) setExit(e wire.Exit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exit == nil {
		m.exit = &e
		m.lent.close()
		close(m.exited)
		m.tell()
	}
}

func (m *Monitor) endSessions(err error) {
	m.mu.Lock()
	sessions := m.sessions
	m.sessions = map[uint32]*Session{}
	m.mu.Unlock()
	for _, s := range sessions {
		s.ended(-1, err)
	}
}
