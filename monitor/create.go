package monitor

import (
	"strconv"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// create makes the container; the answer comes when the launcher has answered. A gate
// that came along is the launcher's: it begins when the daemon lets it.
func (m *monitor) create(c *conn, msg *wire.Message, fds *descriptors) {
	m.report.begun = now()
	m.asked = msg.Flags
	err := m.prepare(msg)
	if err == nil {
		err = m.launchInit(c, msg.ID, fds.take())
	}
	if err != nil {
		m.spare.end()
		m.answerCreate(c, msg.ID, launch.Reply{Error: err}, nil)
	}
}

// prepare takes the configuration over and opens what belongs to the monitor itself.
func (m *monitor) prepare(msg *wire.Message) *launch.Error {
	if m.init.state != none || m.config.Dir != "" {
		return fault("monitor.prepare", launch.KindInvalid, "the monitor has a container already")
	}
	if err := m.config.Parse(msg.Body); err != nil {
		return fault("monitor.prepare", launch.KindInvalid, "configuration: "+err.Error())
	}
	if err := m.spare.settle(m.config.Dir); err != nil {
		return fault("monitor.prepare", launch.KindInternal, "leave the place of a spare for "+m.config.Dir+": "+err.Error())
	}
	if err := syscall.Chdir(m.config.Dir); err != nil {
		return fault("monitor.prepare", launch.KindInternal, "enter "+m.config.Dir+": "+err.Error())
	}
	protect(m.config.OOMScoreAdj)
	m.report.configure()
	log, err := m.room.log.OpenBelow(m.config.LogPath, m.config.LogTrusted, m.config.LogMaxLine)
	if err != nil {
		return fault("monitor.log", launch.KindInternal, "open "+m.config.LogPath+": "+err.Error())
	}
	m.log = log
	m.log.Guard = &m.guard
	m.limitStreams()
	m.ledger.create()
	if err := m.control.listen(); err != nil {
		return fault("monitor.prepare", launch.KindInternal, "listen on "+m.config.Dir+"/"+wire.CtlFile+": "+err.Error())
	}
	if err := m.notify.open(); err != nil {
		return fault("monitor.prepare", launch.KindInternal, "listen on "+m.config.Dir+"/"+wire.NotifyFile+": "+err.Error())
	}
	return nil
}

// protect sets the monitor's own oom_score_adj. Lowering it needs a capability that
// the daemon may lack; the value then stays.
func protect(adj int) {
	fd, err := syscall.Open("/proc/self/oom_score_adj", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	write(fd, strconv.AppendInt(nil, int64(adj), 10))
}

// launchInit makes the standard streams and runs the launcher with them. It takes gate
// over, -1 for none.
func (m *monitor) launchInit(c *conn, id uint32, gate int) *launch.Error {
	ends, err := m.openStreams()
	ends.gate = gate
	defer ends.close()
	if err == nil && m.config.ExecFifo != "" {
		var pipe [2]int
		if err = syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err == nil {
			syscall.SetNonblock(pipe[0], true)
			m.init.verdict, ends.exec = pipe[0], pipe[1]
		}
	}
	if err != nil {
		return fault("monitor.streams", launch.KindInternal, "make standard streams: "+err.Error())
	}
	m.init.state = creating
	m.report.launched = now()
	r, failed := m.spare.launch(m.config.Request, ends.streams, m.config.Terminal, &m.init.words, func(r *run, reply launch.Reply) {
		m.createdInit(c, id, r, reply)
	})
	if failed != nil {
		m.init.state = none
		return failed
	}
	m.init.creation = r
	return nil
}

// createdInit is called with the launcher's reply.
func (m *monitor) createdInit(c *conn, id uint32, r *run, reply launch.Reply) {
	m.init.creation = nil
	m.init.state = none
	if reply.Error == nil && reply.PID == 0 {
		reply.Error = fault("monitor.launch", launch.KindInternal, "vitrine-launch named no process")
	}
	if reply.Error == nil && m.config.Terminal {
		if err := m.tty.open(r); err != 0 {
			reply.Error = fault("monitor.terminal", launch.KindInternal, "take the terminal over: "+err.Error())
		}
	}
	if reply.PID != 0 {
		m.init.pid = reply.PID
		m.init.state = created
		m.procs.adopt(reply.PID, &m.init)
		m.init.pidfd = m.procs.pidfd(reply.PID)
		m.init.group = cgroupOf(reply.PID)
		self, _ := look(reply.PID)
		m.init.born = self.began
		m.init.sharesPIDs = pidNamespace(reply.PID) == pidNamespace(syscall.Getpid())
		if reply.Error != nil {
			m.init.signal(syscall.SIGKILL, true)
		}
	}
	m.init.words.close()
	m.init.words.text = nil
	if m.init.state == created {
		m.ledger.keep()
	}
	m.answerCreate(c, id, reply, r.text)
}

// answerCreate tells the daemon how it went. A success is the launcher's own reply,
// steps included, in body.
func (m *monitor) answerCreate(c *conn, id uint32, reply launch.Reply, body []byte) {
	if reply.Error != nil {
		body = reply.Append(nil)
		for i := range m.streams {
			m.drop(&m.streams[i].fd)
		}
		m.init.words.close()
		closeFD(&m.init.verdict)
		m.stdin.close()
	}
	answer := wire.Message{Kind: wire.Reply, ID: id, Body: body}
	if reply.Error == nil {
		m.lend(c, &answer, m.asked)
	} else {
		c.send(&answer, -1)
	}
	m.report.created(reply)
}

// shutdown ends the monitor, when there is nothing left to watch over.
func (m *monitor) shutdown(c *conn, msg *wire.Message) {
	s := &shutdown{m: m, conn: c, id: msg.ID}
	if m.init.state != none && m.init.state != told {
		if msg.Flags&wire.FlagForce == 0 {
			c.reply(msg.ID, fault("monitor.shutdown", launch.KindInvalid, "the container has not ended"), nil)
			return
		}
		s.kill()
	}
	m.ending = true
	s.timer.fire = s.step
	m.timers = append(m.timers, &s.timer)
	s.step()
}

// shutdown is a Shutdown under way. It looks every few milliseconds whether the
// container has ended, for a bounded time.
type shutdown struct {
	m     *monitor
	conn  *conn
	id    uint32
	timer timer
	tries int
}

// shutdownTries bounds the wait for the container's end: the steps are 2 ms, then 50.
const shutdownTries = 200

func (s *shutdown) kill() {
	if r := s.m.init.creation; r != nil {
		r.kill()
	} else {
		s.m.init.signal(syscall.SIGKILL, true)
	}
}

func (s *shutdown) step() {
	switch {
	case s.m.init.state == none || s.m.init.state == told:
		s.remove()
	case s.tries == shutdownTries:
		s.m.ending = false
		s.conn.reply(s.id, fault("monitor.shutdown", launch.KindInternal, "the container's processes do not end"), nil)
	default:
		s.tries++
		if s.tries%10 == 0 {
			s.kill() // a creation may have made an init meanwhile
		}
		s.timer.set(2 + 48*int64(min(s.tries/10, 1)))
	}
}

// remove has the launcher delete what the runtime keeps, then ends the monitor.
func (s *shutdown) remove() {
	if s.m.config.DeleteRequest == "" {
		s.finish(nil)
		return
	}
	_, err := s.m.launch(s.m.config.DeleteRequest, noStreams, false, nil, func(_ *run, reply launch.Reply) {
		s.finish(reply.Error)
	})
	if err != nil {
		s.finish(err)
	}
}

func (s *shutdown) finish(err *launch.Error) {
	if err != nil {
		s.m.ending = false
		s.conn.reply(s.id, err, nil)
		return
	}
	s.m.control.close()
	s.conn.reply(s.id, nil, nil)
	s.m.done = true
}
