package stream

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Why a connection ended; the cause of its context.
var (
	errClientGone = errors.New("the client closed the connection")
	errIdle       = errors.New("the connection was idle for too long")
	errFinished   = errors.New("the session is over")
)

// clientConn is a client's connection with a context that ends when the client is
// gone. Upgraded protocols read it all the time, so that the end is seen at once.
type clientConn struct {
	net.Conn
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	timer  *time.Timer // ends the connection when it is idle
	probe  *time.Timer // looks for a client that left with input still unread
	close  sync.Once
}

// probeEvery is how often the kernel is asked whether the client is still there.
const probeEvery = 5 * time.Second

// own wraps a fresh connection. ctx ends it, and so does idle time without a byte
// in either direction.
func own(ctx context.Context, raw net.Conn, idle time.Duration) *clientConn {
	c := &clientConn{Conn: raw, idle: idle}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.timer = time.AfterFunc(idle, func() { c.end(errIdle) })
	c.probe = time.AfterFunc(probeEvery, c.look)
	context.AfterFunc(c.ctx, func() { c.end(errFinished) })
	return c
}

// look ends the connection when the client has closed it. Reading tells that sooner,
// but not while a command does not take its input: then nobody reads up to the end.
// A client that left with more unsent than the socket takes is not seen before the
// kernel gives that up, which takes minutes.
func (c *clientConn) look() {
	if c.ctx.Err() != nil {
		return
	}
	if hungUp(c.Conn) {
		c.end(errClientGone)
		return
	}
	c.probe.Reset(probeEvery)
}

// hungUp says whether the peer of a TCP connection has closed it.
func hungUp(conn net.Conn) (gone bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err == nil && (info.State == unix.BPF_TCP_CLOSE_WAIT || info.State == unix.BPF_TCP_CLOSE)
	})
	return gone || err != nil
}

// end closes the connection, once; cause is what its context reports.
func (c *clientConn) end(cause error) {
	c.cancel(cause)
	c.close.Do(func() {
		c.timer.Stop()
		c.probe.Stop()
		c.Conn.Close()
	})
}

// Close ends the connection. It may be called more than once.
func (c *clientConn) Close() error {
	c.end(errFinished)
	return nil
}

// Read reads from the client. Its failing ends the connection, except for a
// deadline, which net/http uses to interrupt itself.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.touch(n)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.end(errClientGone)
	}
	return n, err
}

// Write writes to the client. Its failing ends the connection.
func (c *clientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.touch(n)
	if err != nil {
		c.end(errClientGone)
	}
	return n, err
}

func (c *clientConn) touch(n int) {
	if n > 0 && c.ctx.Err() == nil {
		c.timer.Reset(c.idle)
	}
}

// linger waits for the client to close first, for a bounded time: closing a socket
// with unread input resets it, and the client would lose output that is under way.
func (c *clientConn) linger(bound time.Duration) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-c.ctx.Done():
	case <-timer.C:
	}
}

// listener makes every accepted connection a clientConn.
type listener struct {
	net.Listener
	ctx  context.Context
	idle time.Duration
}

// Accept waits for the next client.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return own(l.ctx, raw, l.idle), nil
}

type connKey struct{}

// keepConn puts the connection into its requests' contexts.
func keepConn(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}
