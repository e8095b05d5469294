package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait is how long the instance's lock may still be held after its daemon was
// killed: by a child that it had just forked, until that executes its own program.
const lockWait = 2 * time.Second

// lockState takes the instance's lock. A second daemon on the same state directory
// is refused before it touches anything. Whoever has the lock knows that every child
// of the daemon before is on record or visible in /proc.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	f, err := os.OpenFile(dir+"/vitrined.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("another vitrined serves %s: %w", dir, err)
		}
	}
}

// listenUnix replaces a socket that a dead daemon left behind. The caller holds
// the instance's lock, so no living one can be there.
func listenUnix(path string, mode os.FileMode, group int) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener, err := listenPrivate(path) // between this and chmod nobody else may connect
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := errors.Join(os.Chown(path, -1, group), os.Chmod(path, mode)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, nil
}

// listenPrivate makes a socket of mode 0600 at most: the inode that bind(2) makes has the socket's own
// mode (unix_bind_bsd, net/unix/af_unix.c). A umask would be the whole process's, and of the
// monitors that begin meanwhile, too.
func listenPrivate(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		if e := conn.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	return config.Listen(context.Background(), "unix", path) // it does not wait
}

// sendBuffer is how much of an answer the kernel takes from the daemon before a client has
// read of it, in bytes: a list of thousands of containers. With the kernel's usual 208 KiB
// such a list is some twenty turns between two processes, each of which waits for a CPU
// where many are busy. Nothing is held for a client that has nothing to read, and HTTP/2's
// windows bound what one that does not read can have.
const sendBuffer = 4 << 20

// roomy is a listener whose connections take sendBuffer bytes at once. The
// administrator's net.core.wmem_max bounds it where the daemon may not exceed that.
type roomy struct{ net.Listener }

// Accept waits for the next connection.
func (l roomy) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(*net.UnixConn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer) // slower lists are all there is to lose
				}
			})
		}
	}
	return conn, nil
}

// listenAny takes host:port or unix:/path.
func listenAny(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path, 0o660, 0)
	}
	return net.Listen("tcp", address)
}

// serveHTTP serves until stop is called, which waits a bounded time for requests
// in progress.
func serveHTTP(listener net.Listener, handler http.Handler) (stop func()) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener)
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-done
	}
}
