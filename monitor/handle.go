package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// handle does what a request asks. Answers that have to wait come later, to the
// connection if it is still there.
func (m *monitor) handle(c *conn, msg *wire.Message, fds *descriptors) {
	if m.trust.on {
		m.trust.handle(c, msg, fds)
		return
	}
	switch msg.Kind {
	case wire.Create:
		m.create(c, msg, fds)
	case wire.Spare:
		m.spare.begin(msg)
	case wire.Hello:
		m.lend(c, &wire.Message{Kind: wire.Reply, ID: msg.ID, Body: m.info()}, msg.Flags)
	case wire.Start:
		m.init.start(c, msg)
	case wire.Signal:
		c.reply(msg.ID, m.init.signal(syscall.Signal(msg.Signal), msg.Flags&wire.FlagAll != 0), nil)
	case wire.Reopen:
		m.reopen(waiter{conn: c, id: msg.ID})
	case wire.CloseStdin:
		m.stdin.finish()
		c.reply(msg.ID, nil, nil)
	case wire.Resize:
		c.reply(msg.ID, m.tty.resize(msg.Width, msg.Height), nil)
	case wire.Exec:
		m.exec(c, msg, fds)
	case wire.Attach:
		m.attach(c, msg, fds)
	case wire.KillSession:
		m.killSession(c, msg)
	case wire.CloseSession:
		m.closeSession(c, msg)
	case wire.Stats:
		c.reply(msg.ID, nil, m.counters().Append(nil))
	case wire.Shutdown:
		m.shutdown(c, msg)
	case wire.Upgrade:
		m.upgrade.begin(c, msg)
	default:
		c.reply(msg.ID, fault("monitor.request", launch.KindInvalid, "the monitor does not know this request"), nil)
	}
}

// info is what the monitor says about itself.
func (m *monitor) info() []byte {
	info := wire.Info{Monitor: syscall.Getpid(), Init: m.init.pid, ID: m.config.ID, Request: m.config.Request,
		Started: m.init.startedAt != 0, Exited: m.init.state == told, Terminal: m.config.Terminal,
		Stdin: m.config.Stdin, StdinOnce: m.config.StdinOnce, Upgrades: m.upgrade.count, Build: build}
	return info.Append(nil)
}

// reopen answers a Reopen request; while the file system does not answer, with that.
func (m *monitor) reopen(w waiter) {
	switch {
	case m.log == nil:
		w.conn.reply(w.id, nil, nil)
		return
	case m.guard.away:
		w.conn.reply(w.id, m.guard.refusal(), nil)
		return
	}
	m.guard.reopens = w
	err := m.log.Reopen()
	m.ledger.done()
	if m.guard.reopens.conn == nil { // it took so long that it was answered
		return
	}
	m.guard.reopens = waiter{}
	if err != nil {
		w.conn.reply(w.id, fault("monitor.log", launch.KindInternal, "open "+m.config.LogPath+": "+err.Error()), nil)
		return
	}
	w.conn.reply(w.id, nil, nil)
}

// closeSession ends an attached client; an exec session is only forgotten.
func (m *monitor) closeSession(c *conn, msg *wire.Message) {
	for _, a := range m.clients {
		if a.conn == c && a.id == msg.Session {
			a.close()
			break
		}
	}
	if e := m.session(c, msg.Session); e != nil {
		e.conn = nil
	}
	c.reply(msg.ID, nil, nil)
}
