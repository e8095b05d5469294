package monitor

import (
	"strconv"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// defaultStall is how long a client may read nothing while output waits for it, in milliseconds.
const defaultStall = 10000

// client is someone attached to the container's streams. Its pipes are the bounded
// buffers between the container and it.
type client struct {
	m       *monitor
	conn    *conn
	id      uint32
	in      feeder
	out     [2]sink
	stalled timer
}

// sink is one output of a client.
type sink struct {
	c       *client
	fd      int
	skipped uint64 // bytes left out since the pipe was full
}

// attach joins a client to the streams.
func (m *monitor) attach(from *conn, msg *wire.Message, fds *descriptors) {
	if m.init.state < created || m.init.state >= dead {
		from.reply(msg.ID, fault("monitor.attach", launch.KindGone, "the container is not running"), nil)
		return
	}
	c := &client{conn: from, id: msg.ID}
	c.prime(m)
	m.timers = append(m.timers, &c.stalled)
	m.clients = append(m.clients, c)
	if msg.Flags&wire.FlagStdin != 0 {
		c.in.fd = fds.take()
	}
	for i, flag := range [...]uint32{wire.FlagStdout, wire.FlagStderr} {
		if msg.Flags&flag != 0 {
			c.out[i].open(fds.take())
		}
	}
	if c.in.fd >= 0 && m.stdin.fd < 0 {
		c.in.close() // a writer sees at once that nobody reads
	} else if c.in.fd >= 0 {
		syscall.SetNonblock(c.in.fd, true)
		if !m.stdin.armed {
			m.watch(c.in.fd, syscall.EPOLLIN, &c.in)
		}
	}
	from.reply(msg.ID, nil, nil)
}

func (c *client) prime(m *monitor) {
	c.m = m
	c.in = feeder{c, -1}
	c.out = [2]sink{{c: c, fd: -1}, {c: c, fd: -1}}
	c.stalled.fire = c.stall
}

func (s *sink) open(fd int) {
	if fd < 0 {
		return
	}
	s.fd = fd
	syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), fSetPipeSize, wideSize)
	syscall.SetNonblock(fd, true)
	s.c.m.watch(fd, 0, s) // an error is reported when the reader goes
}

// show gives output to the client.
func (c *client) show(from *stream, data []byte) {
	s := &c.out[0]
	if from.stderr {
		s = &c.out[1]
	}
	if s.fd < 0 {
		return
	}
	if s.skipped == 0 {
		n, e := write(s.fd, data)
		if e != 0 && e != syscall.EAGAIN {
			s.gone()
			return
		}
		if data = data[n:]; len(data) == 0 {
			return
		}
		c.m.watch(s.fd, syscall.EPOLLOUT, s)
		if c.stalled.at == 0 {
			c.stalled.set(c.patience())
		}
	}
	s.skipped += uint64(len(data))
	c.m.counts.AttachSkipped += uint64(len(data))
}

// ready is called when a full pipe has room again, or its reader is gone.
func (s *sink) ready(events uint32) {
	if events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
		s.gone()
		return
	}
	if s.skipped == 0 {
		return
	}
	mark := append([]byte("\r\n[vitrine: "), strconv.FormatUint(s.skipped, 10)...)
	mark = append(mark, " bytes are not shown, the client reads too slowly]\r\n"...)
	n, e := write(s.fd, mark)
	if e == syscall.EAGAIN || n > 0 && n < len(mark) {
		return
	}
	if e != 0 {
		s.gone()
		return
	}
	s.skipped = 0
	s.c.m.watch(s.fd, 0, s)
	s.c.stalled.at = 0
	if s.c.out[0].skipped > 0 || s.c.out[1].skipped > 0 {
		s.c.stalled.set(s.c.patience())
	}
}

func (c *client) patience() int64 {
	if ms := c.m.config.AttachStall; ms > 0 {
		return int64(ms)
	}
	return defaultStall
}

// gone is called when the reader has closed the stream.
func (s *sink) gone() {
	s.c.m.drop(&s.fd)
	s.skipped = 0
}

// stall is called when the client has read nothing for too long.
func (c *client) stall() {
	skipped := c.out[0].skipped + c.out[1].skipped
	if skipped == 0 {
		return
	}
	c.m.counts.AttachDropped++
	c.end(0, fault("monitor.attach", launch.KindInternal,
		"disconnected: the client did not read its output while "+strconv.FormatUint(skipped, 10)+" bytes were left out"))
}

// end tells the client that its session is over, and closes it.
func (c *client) end(status uint32, reason *launch.Error) {
	msg := wire.Message{Kind: wire.SessionEnded, Session: c.id, Status: status}
	if reason != nil {
		msg.Body = launch.Reply{Error: reason}.Append(nil)
	}
	conn := c.conn
	c.close()
	conn.send(&msg, -1)
}

// close forgets the client. The container's stdin is closed with it if it was for one
// client only.
func (c *client) close() {
	m := c.m
	for i, other := range m.clients {
		if other == c {
			m.clients = append(m.clients[:i], m.clients[i+1:]...)
			break
		}
	}
	for i, t := range m.timers {
		if t == &c.stalled {
			m.timers = append(m.timers[:i], m.timers[i+1:]...)
			break
		}
	}
	had := c.in.fd >= 0
	c.in.close()
	m.drop(&c.out[0].fd)
	m.drop(&c.out[1].fd)
	if had && m.config.StdinOnce {
		m.stdin.finish()
	}
}
