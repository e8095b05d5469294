package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// conn is one control connection: requests get numbers, replies find their callers,
// everything else goes to the event function of begin.
type conn struct {
	sock *net.UnixConn
	raw  syscall.RawConn

	reader errand
	event  func(wire.Message, []int) // the reader's, like the two that follow
	ended  func()
	over   bool

	mu      sync.Mutex // guards what follows
	next    uint32
	waiting map[uint32]chan answer
	dead    bool
}

type answer struct {
	msg wire.Message
	fds []int
}

func newConn(sock net.Conn) (*conn, error) {
	c := &conn{sock: sock.(*net.UnixConn), waiting: map[uint32]chan answer{}}
	var err error
	if c.raw, err = c.sock.SyscallConn(); err != nil {
		sock.Close()
		return nil, err
	}
	return c, nil
}

// connFromFD takes fd over, in every case.
func connFromFD(fd int) (*conn, error) {
	f := os.NewFile(uintptr(fd), "monitor")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return newConn(c)
}

// dial connects to the control socket in dir, whose path may be longer than a
// socket address can hold.
func dial(ctx context.Context, dir string) (*conn, error) {
	fd, err := syscall.Open(dir, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer syscall.Close(fd)
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", fmt.Sprintf("/proc/self/fd/%d/%s", fd, wire.CtlFile))
	if err != nil {
		return nil, err
	}
	return newConn(c)
}

// reserve draws the number of the next request.
func (c *conn) reserve() (uint32, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return 0, nil, ErrLost
	}
	c.next++
	ch := make(chan answer, 1)
	c.waiting[c.next] = ch
	return c.next, ch, nil
}

// call sends a request and waits for its reply. files are sent along and stay the
// caller's. The descriptors returned belong to the caller.
func (c *conn) call(ctx context.Context, msg *wire.Message, files []int) (wire.Message, []int, error) {
	id, ch, err := c.reserve()
	if err != nil {
		return wire.Message{}, nil, err
	}
	msg.ID = id
	return c.finish(ctx, msg, ch, files)
}

func (c *conn) finish(ctx context.Context, msg *wire.Message, ch chan answer, files []int) (wire.Message, []int, error) {
	if err := c.send(msg, files); err != nil {
		c.forget(msg.ID, ch)
		return wire.Message{}, nil, err
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return wire.Message{}, nil, ErrLost
		}
		return a.msg, a.fds, nil
	case <-ctx.Done():
		c.forget(msg.ID, ch)
		return wire.Message{}, nil, ctx.Err()
	}
}

// forget gives up on a reply; one that has come meanwhile is dropped with its descriptors.
func (c *conn) forget(id uint32, ch chan answer) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
	select {
	case a := <-ch:
		closeAll(a.fds)
	default:
	}
}

func (c *conn) send(msg *wire.Message, files []int) error {
	packet := msg.Append(nil)
	if len(packet) > wire.MaxPacket {
		return fmt.Errorf("message of %d bytes, at most %d can be sent", len(packet), wire.MaxPacket)
	}
	var oob []byte
	if len(files) > 0 {
		oob = syscall.UnixRights(files...)
	}
	if _, _, err := c.sock.WriteMsgUnix(packet, oob, nil); err != nil {
		return errors.Join(ErrLost, err)
	}
	return nil
}

// begin reads from now on until the connection ends; every waiting caller fails then, and
// ended is called. The descriptors of an event are event's. On an error the connection is
// closed, and neither is called.
func (c *conn) begin(event func(wire.Message, []int), ended func()) error {
	c.event, c.ended, c.reader.do = event, ended, c.read
	var err error
	if lost := c.raw.Control(func(fd uintptr) { err = descriptors.watch(int(fd), &c.reader) }); lost != nil {
		err = lost
	}
	if err != nil {
		c.lose()
	}
	return err
}

// read is the reader's errand: what has come.
func (c *conn) read() {
	for !c.over {
		msg, fds, err := c.receive()
		switch {
		case err == syscall.EAGAIN:
			return
		case err != nil:
			c.over = true
			c.lose()
			c.ended()
		case msg.Kind == wire.Reply:
			c.deliver(answer{msg, fds})
		default:
			c.event(msg, fds)
		}
	}
}

// lose fails every waiting caller, and those to come.
func (c *conn) lose() {
	c.shut()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for id, ch := range c.waiting {
		delete(c.waiting, id)
		close(ch)
	}
}

// packets are buffers for one packet each. A connection says something once in minutes:
// it has a buffer only while there is something to read.
var packets = sync.Pool{New: func() any { return new([wire.MaxPacket]byte) }}

// receive returns the next message; its descriptors belong to the caller. EAGAIN: there is
// none yet.
func (c *conn) receive() (msg wire.Message, fds []int, err error) {
	if lost := c.raw.Control(func(fd uintptr) { msg, fds, err = receivePacket(int(fd)) }); lost != nil {
		err = lost
	}
	return msg, fds, err
}

// receivePacket does not block.
func receivePacket(sock int) (msg wire.Message, fds []int, err error) {
	buf := packets.Get().(*[wire.MaxPacket]byte)
	defer packets.Put(buf)
	var oob [64]byte // room for four descriptors
	for {
		n, oobn, flags, _, err := syscall.Recvmsg(sock, buf[:], oob[:syscall.CmsgSpace(4*4)], syscall.MSG_CMSG_CLOEXEC|syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return msg, nil, err
		}
		if n == 0 {
			return msg, nil, ErrLost
		}
		fds = rights(oob[:oobn])
		if flags&syscall.MSG_TRUNC != 0 {
			err = wire.ErrMalformed
		} else {
			err = msg.Parse(buf[:n])
		}
		if err != nil {
			closeAll(fds)
			return msg, nil, err
		}
		msg.Body = append([]byte(nil), msg.Body...)
		return msg, fds, nil
	}
}

func (c *conn) deliver(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch, ok := c.waiting[a.msg.ID]
	if !ok {
		closeAll(a.fds)
		return
	}
	delete(c.waiting, a.msg.ID)
	ch <- a // one reply per request, room for one
}

// close is called after begin. The reader finds the connection at its end, which close does
// not wait for.
func (c *conn) close() {
	c.shut()
	c.reader.ask()
}

func (c *conn) shut() {
	c.raw.Control(func(fd uintptr) { descriptors.forget(int(fd)) })
	c.sock.Close()
}

func rights(oob []byte) (fds []int) {
	if len(oob) == 0 {
		return nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if got, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

const oPath = 0x200000 // O_PATH, which package syscall does not name
