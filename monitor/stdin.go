package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// stdin is the container's standard input. Several clients may feed it; what one read
// took and the container has not is kept, and no client is read meanwhile.
type stdin struct {
	m        *monitor
	fd       int // -1 when there is none, or it is closed
	tty      bool
	buf      []byte // mapped on first use
	off, len int    // what is kept: buf[off:len]
	closing  bool   // close when nothing is kept
	armed    bool   // waiting for room
	pipe     uint64 // its inode; 0 for a terminal
}

// feeder is a client's standard input.
type feeder struct {
	c  *client
	fd int
}

// ready moves what the client has written, at most once around.
func (f *feeder) ready(uint32) {
	in := &f.c.m.stdin
	if in.fd < 0 {
		f.close()
		return
	}
	if in.kept() {
		return
	}
	if in.buf == nil {
		in.buf = mapBuffer(scratchSize)
	}
	n, e := read(f.fd, in.buf)
	if e == syscall.EAGAIN {
		return
	}
	if n == 0 {
		f.close()
		if f.c.m.config.StdinOnce {
			in.finish()
		}
		return
	}
	in.off, in.len = 0, n
	in.m.active = true // the buffer is given back when idle
	in.push()
}

func (f *feeder) close() { f.c.m.drop(&f.fd) }

func (s *stdin) kept() bool { return s.off < s.len }

// ready is called when the container has room again.
func (s *stdin) ready(uint32) { s.push() }

// push writes what is kept, as far as there is room.
func (s *stdin) push() {
	for s.kept() {
		n, e := write(s.fd, s.buf[s.off:s.len])
		if e == syscall.EAGAIN {
			s.wait(true)
			return
		}
		if e != 0 { // nobody will ever read it
			s.off, s.len = 0, 0
			s.close()
			return
		}
		s.off += n
	}
	s.wait(false)
	if s.closing {
		s.close()
	}
}

// wait switches between waiting for room and waiting for clients. The clients are
// taken out of the loop, where a closed one would be reported for ever.
func (s *stdin) wait(forRoom bool) {
	if s.armed == forRoom {
		return
	}
	s.armed = forRoom
	if forRoom {
		s.m.watch(s.fd, syscall.EPOLLOUT, s)
	} else {
		s.m.unwatch(s.fd)
	}
	for _, c := range s.m.clients {
		if c.in.fd < 0 {
			continue
		}
		if forRoom {
			s.m.unwatch(c.in.fd)
		} else {
			s.m.watch(c.in.fd, syscall.EPOLLIN, &c.in)
		}
	}
}

// finish closes the container's standard input behind what is kept. A terminal gets
// its end-of-file character instead.
func (s *stdin) finish() {
	if s.fd < 0 {
		return
	}
	if s.tty {
		eof := [1]byte{4}
		write(s.fd, eof[:])
		return
	}
	s.closing = true
	s.push()
}

func (s *stdin) close() {
	if s.fd < 0 {
		return
	}
	s.armed = false
	s.m.drop(&s.fd)
	if s.pipe != 0 { // the container sees the end when nobody else holds it open
		s.m.control.tell(&wire.Message{Kind: wire.StdinClosed})
	}
	for _, c := range s.m.clients {
		c.in.close()
	}
}

// release gives the buffer's memory back when nothing is kept.
func (s *stdin) release() {
	if !s.kept() {
		logfile.Release(s.buf)
	}
}
