package monitor

import (
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// socket is the control socket and the connections that came through it.
type socket struct {
	m        *monitor
	listener int
	conns    []*conn
	packet   []byte // the packet being sent; reused
}

// conn is one connection of a daemon. Losing it means nothing to the container.
type conn struct {
	m  *monitor
	fd int
	// lends: it asked for FlagLend.
	lends bool
}

// first takes over the connection that the monitor was born with.
func (s *socket) first(fd int) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	s.add(fd)
	return nil
}

func (s *socket) add(fd int) {
	c := &conn{m: s.m, fd: fd}
	s.conns = append(s.conns, c)
	s.m.watch(fd, syscall.EPOLLIN, c)
}

// listen makes the socket in the working directory, mode 0600.
func (s *socket) listen() error {
	fd, err := listenAt(wire.CtlFile, syscall.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	s.listener = fd
	s.m.watch(fd, syscall.EPOLLIN, s)
	return nil
}

// listenAt makes a listening socket in the place of whatever bears the name in the
// working directory.
func listenAt(name string, kind int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := syscall.Unlink(name); err != nil && err != syscall.ENOENT {
		syscall.Close(fd)
		return -1, err
	}
	mask := syscall.Umask(0o177)
	e := address(syscall.SYS_BIND, fd, newPath(name))
	syscall.Umask(mask)
	if e == 0 {
		e = errno(syscall.Listen(fd, 16))
	}
	if e != 0 {
		syscall.Close(fd)
		return -1, e
	}
	return fd, nil
}

// ready accepts connections of root and of the monitor's own user.
func (s *socket) ready(uint32) {
	for {
		fd, _, err := syscall.Accept4(s.listener, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		if !mayConnect(fd) {
			syscall.Close(fd)
			continue
		}
		s.add(fd)
		s.m.report.daemonIsBack()
	}
}

func mayConnect(fd int) bool {
	var peer syscall.Ucred
	size := uint32(unsafe.Sizeof(peer))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED,
		uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size)), 0)
	return e == 0 && (peer.Uid == 0 || int(peer.Uid) == syscall.Geteuid())
}

// ready reads requests until there are no more.
func (c *conn) ready(uint32) {
	c.m.active = true
	for c.fd >= 0 {
		var fds [4]int
		n, nfds, e := receive(c.fd, c.m.scratch, &fds)
		if e == syscall.EAGAIN || e == syscall.EINTR {
			return
		}
		var msg wire.Message
		if e != 0 || n == 0 {
			c.close()
			return
		}
		got := descriptors{fds: fds, n: nfds}
		if err := msg.Parse(c.m.scratch[:n]); err != nil {
			complain("request", err)
			c.close()
		} else {
			c.m.handle(c, &msg, &got)
		}
		got.close()
	}
}

// descriptors came with a request. Whoever wants one takes it; the rest is closed.
type descriptors struct {
	fds     [4]int
	next, n int
}

func (d *descriptors) take() int {
	if d.next == d.n {
		return -1
	}
	d.next++
	return d.fds[d.next-1]
}

func (d *descriptors) close() {
	for fd := d.take(); fd >= 0; fd = d.take() {
		syscall.Close(fd)
	}
}

// close ends the connection: its attached clients go, its exec processes live on.
func (c *conn) close() {
	c.m.drop(&c.fd)
	s := &c.m.control
	for i, other := range s.conns {
		if other == c {
			s.conns = append(s.conns[:i], s.conns[i+1:]...)
			break
		}
	}
	for i := len(c.m.clients) - 1; i >= 0; i-- {
		if c.m.clients[i].conn == c {
			c.m.clients[i].close()
		}
	}
	for _, e := range c.m.execs {
		if e.conn == c {
			e.conn = nil
		}
	}
}

// send sends msg, with a descriptor unless fd is negative. A daemon that does not
// read loses the connection; it can come back, and the truth is on disk.
func (c *conn) send(msg *wire.Message, fd int) {
	if fd < 0 {
		c.sendAll(msg, nil)
	} else {
		c.sendAll(msg, []int{fd})
	}
}

// sendAll is send with several descriptors, at most four.
func (c *conn) sendAll(msg *wire.Message, fds []int) {
	if c == nil || c.fd < 0 {
		return
	}
	s := &c.m.control
	s.packet = msg.Append(s.packet[:0])
	if e := send(c.fd, s.packet, fds); e != 0 {
		c.close()
	}
}

// reply answers the request id; err may be nil.
func (c *conn) reply(id uint32, err *launch.Error, body []byte) {
	msg := wire.Message{Kind: wire.Reply, ID: id, Body: body}
	if err != nil {
		msg.Flags = wire.FlagError
		msg.Body = launch.Reply{Error: err}.Append(nil)
	}
	c.send(&msg, -1)
}

// tell sends an event to every connection.
func (s *socket) tell(msg *wire.Message) {
	for i := len(s.conns) - 1; i >= 0; i-- { // send may remove the connection
		s.conns[i].send(msg, -1)
	}
}

func (s *socket) close() {
	if s.listener >= 0 {
		s.m.drop(&s.listener)
		syscall.Unlink(wire.CtlFile)
	}
}
