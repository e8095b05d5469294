package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// session is a process started in the running container. Its streams go past the
// monitor: the daemon's ends were passed in, or the terminal's master is passed out.
type session struct {
	m      *monitor
	conn   *conn // nil when the daemon is gone or has forgotten it
	id     uint32
	launch *run // until the process runs
	pid    int  // the process, until it is reaped
	killed bool
	enters bool  // without the launcher: an error only means that it is to be done with that
	began  int64 // when it was asked for, in nanoseconds of uptime
}

// exec starts a process; the answer comes when it has executed its program.
func (m *monitor) exec(from *conn, msg *wire.Message, fds *descriptors) {
	s := &session{m: m, conn: from, id: msg.ID, began: uptime()}
	request := fds.take()
	defer closeFD(&request)
	if m.init.state != running {
		from.reply(msg.ID, fault("monitor.exec", launch.KindGone, "the container is not running"), nil)
		return
	}
	given := ends{noStreams}
	defer given.close()
	for _, want := range [...]struct {
		flag uint32
		fd   *int
	}{{wire.FlagStdin, &given.stdin}, {wire.FlagStdout, &given.stdout}, {wire.FlagStderr, &given.stderr}} {
		if msg.Flags&want.flag != 0 {
			*want.fd = fds.take()
		}
	}
	if request < 0 {
		from.reply(msg.ID, fault("monitor.exec", launch.KindInvalid, "no launch request came along"), nil)
		return
	}
	program := -1
	defer closeFD(&program)
	if msg.Flags&wire.FlagEnter != 0 {
		s.enters = true
		if program = fds.take(); program < 0 || m.init.pidfd < 0 {
			from.reply(msg.ID, fault("monitor.exec", launch.KindInvalid, "no program or no pidfd to enter with"), nil)
			return
		}
	}
	kept, e := dup(request) // the launcher opens it through /proc while it runs
	if e != 0 {
		from.reply(msg.ID, fault("monitor.exec", launch.KindInternal, e.Error()), nil)
		return
	}
	began, parent := now(), msg.Traceparent
	with := given.streams
	if s.enters {
		with.program, with.exec = program, m.init.pidfd
	}
	r, err := m.launch(ownFile(kept), with, msg.Flags&wire.FlagTerminal != 0, nil, func(r *run, reply launch.Reply) {
		closeFD(&kept)
		s.begun(r, reply)
		if reply.Error == nil || !s.enters {
			m.report.exec(parent, began, reply)
		}
	})
	if err != nil {
		closeFD(&kept)
		from.reply(msg.ID, err, nil)
		return
	}
	r.brief = !m.report.wanted(m.report.under(parent))
	s.launch = r
	m.execs = append(m.execs, s)
	if !s.enters {
		m.counts.Execs++
	}
}

// begun is called with the launcher's reply.
func (s *session) begun(r *run, reply launch.Reply) {
	s.launch = nil
	if reply.Error == nil && reply.PID == 0 {
		reply.Error = fault("monitor.exec", launch.KindInternal, "vitrine-launch named no process")
	}
	if reply.Error != nil {
		if !s.enters {
			s.m.counts.ExecFailed++
		}
		s.remove()
		s.conn.reply(s.id, reply.Error, nil)
		return
	}
	if s.enters { // not before: one that is declined comes again
		s.m.counts.Execs++
	}
	s.pid = reply.PID
	s.m.counts.ExecStartNanos += uint64(uptime() - s.began)
	s.conn.send(&wire.Message{Kind: wire.Reply, ID: s.id, Body: launch.Reply{PID: reply.PID}.Append(nil)}, r.master)
	s.m.procs.adopt(s.pid, s)
	if s.killed {
		s.kill()
	}
}

// exited is called when the process was reaped.
func (s *session) exited(status uint32, usage *syscall.Rusage) {
	s.pid = 0
	s.m.counts.ExecCPUNanos += cpuTime(usage)
	s.remove()
	s.conn.send(&wire.Message{Kind: wire.SessionEnded, Session: s.id, Status: status}, -1)
}

// cpuTime is the time that a process and those it waited for have used, in nanoseconds.
func cpuTime(usage *syscall.Rusage) uint64 { return uint64(usage.Utime.Nano() + usage.Stime.Nano()) }

// kill ends the process and its descendants, or the launcher that would start it, and
// returns whom it killed.
func (s *session) kill() (killed map[int]process) {
	s.killed = true
	if s.pid != 0 && s.m.init.kept() {
		killKeeper(s.pid)
	} else if s.pid != 0 {
		return killTree([]int{s.pid}, s.m.init.group)
	} else if s.launch != nil {
		return s.launch.kill()
	}
	return nil
}

func (s *session) remove() {
	for i, other := range s.m.execs {
		if other == s {
			s.m.execs = append(s.m.execs[:i], s.m.execs[i+1:]...)
			return
		}
	}
}

// session finds an exec session of the connection; nil when it has ended.
func (m *monitor) session(c *conn, id uint32) *session {
	for _, s := range m.execs {
		if s.conn == c && s.id == id {
			return s
		}
	}
	return nil
}

// killSession ends a session's processes; one that has ended is success.
func (m *monitor) killSession(c *conn, msg *wire.Message) {
	var killed map[int]process
	if s := m.session(c, msg.Session); s != nil {
		killed = s.kill()
	}
	m.mourn(c, msg.ID, killed)
}
