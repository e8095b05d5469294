package monitor

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
)

// exchange is one POST at a time to the daemon's OTLP receiver, within the loop.
type exchange struct {
	m       *monitor
	sock    int // -1: none is under way
	room    []byte
	request []byte // what of the POST is not yet written; in room
	answer  [16]byte
	got     int
	timeout timer
	done    func(accepted bool) // called once for each begin, maybe within it
}

const (
	// exchangeTimeout bounds one POST, in milliseconds.
	exchangeTimeout = 5000
	// exchangeHead is room for a request's head.
	exchangeHead = 512
	accepted     = "HTTP/1.1 2"
)

func (x *exchange) init(m *monitor, done func(bool)) {
	x.m, x.sock, x.done = m, -1, done
	x.timeout.fire = func() { x.end(false) }
	m.timers = append(m.timers, &x.timeout)
}

// begin starts a POST of body, which is copied.
func (x *exchange) begin(path string, body []byte) {
	x.m.posts++
	x.timeout.set(exchangeTimeout)
	fd, e := connect(x.m.config.TelemetrySocket)
	if e != 0 {
		x.end(false)
		return
	}
	x.sock = fd
	if len(x.room) < exchangeHead+len(body) {
		if x.room != nil {
			logfile.Unmap(x.room)
		}
		x.room = mapBuffer(max(queueSize, len(body)) + exchangeHead)
	}
	r := append(append(x.room[:0], "POST "...), path...)
	r = append(r, " HTTP/1.1\r\nHost: vitrined\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Length: "...)
	r = append(strconv.AppendInt(r, int64(len(body)), 10), "\r\n\r\n"...)
	x.request, x.got = append(r, body...), 0
	x.m.watch(fd, syscall.EPOLLIN|syscall.EPOLLOUT, x)
}

// connect opens the stream socket at path, which may be longer than an address can be.
func connect(path string) (int, syscall.Errno) {
	i := strings.LastIndexByte(path, '/')
	dir, e := newPath(path[:i+1]).open(oPath | syscall.O_DIRECTORY)
	if e != 0 {
		return -1, e
	}
	defer syscall.Close(dir)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, errno(err)
	}
	if e := address(syscall.SYS_CONNECT, fd, newPath("/proc/self/fd/").addInt(dir).add(path[i:])); e != 0 {
		syscall.Close(fd)
		return -1, e
	}
	return fd, 0
}

// address makes the call, connect or bind, with a unix socket and its path.
func address(call uintptr, fd int, name *path) syscall.Errno {
	var addr syscall.RawSockaddrUnix
	if name.n >= len(addr.Path) {
		return syscall.EINVAL
	}
	addr.Family = syscall.AF_UNIX
	for i, b := range name.text[:name.n] {
		addr.Path[i] = int8(b)
	}
	size := int(unsafe.Offsetof(addr.Path)) + name.n + 1
	_, _, e := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&addr)), uintptr(size))
	return e
}

// ready writes the request and reads the status line.
func (x *exchange) ready(uint32) {
	for len(x.request) > 0 {
		n, e := write(x.sock, x.request)
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 {
			x.end(false)
			return
		}
		if x.request = x.request[n:]; len(x.request) == 0 {
			x.m.watch(x.sock, syscall.EPOLLIN, x)
		}
	}
	n, e := read(x.sock, x.answer[x.got:])
	if e == syscall.EAGAIN {
		return
	}
	x.got += n
	if n == 0 || x.got >= len(accepted) {
		x.end(x.got >= len(accepted) && string(x.answer[:len(accepted)]) == accepted)
	}
}

func (x *exchange) end(ok bool) {
	x.timeout.at = 0
	x.m.drop(&x.sock)
	x.request = nil
	x.done(ok)
}

// release gives the memory back when nothing is under way.
func (x *exchange) release() {
	if x.sock < 0 {
		logfile.Release(x.room)
	}
}
