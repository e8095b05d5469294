package monitor

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor/otlp"
)

const (
	// queueSize bounds the telemetry that waits in memory, in bytes.
	queueSize = 64 << 10
	// deliveryTimeout bounds one POST, in milliseconds.
	deliveryTimeout = 5000
)

// delivery brings telemetry to the daemon: one POST at a time over the unix socket,
// within the loop. What cannot be delivered goes to the spool, and from there when the
// daemon has come back.
type delivery struct {
	m       *monitor
	sock    int
	queue   []byte    // export requests; queue[:sending] is on its way
	spans   [2]uint64 // spans in queue[:sending] and behind it
	sending int
	stage   stage
	request []byte // what of the POST is not yet written
	answer  []byte
	spool   spool
	timeout timer
}

// stage is what the POST under way carries.
type stage uint8

const (
	idle stage = iota
	sendingQueue
	sendingSpool
)

// queueSpans adds spans to the queue. When it is full they are spooled.
func (d *delivery) queueSpans(res *otlp.Resource, spans []otlp.Span) {
	if d.queue == nil {
		d.queue = mapBuffer(queueSize)[:0]
	}
	encoded := otlp.AppendTraces(nil, res, spans)
	if len(d.queue)+len(encoded) > queueSize {
		d.keep(encoded, uint64(len(spans)))
		return
	}
	d.queue = append(d.queue, encoded...)
	d.spans[1] += uint64(len(spans))
	d.m.active = true
}

// keep spools an encoded request, or counts it as dropped.
func (d *delivery) keep(encoded []byte, spans uint64) {
	if d.spool.append(encoded) {
		d.m.counts.SpansSpooled += spans
	} else {
		d.m.counts.SpansDropped += spans
	}
}

// flush begins to deliver the queue, if there is one and nothing is under way.
func (d *delivery) flush() {
	if d.stage == idle && len(d.queue) > 0 {
		d.sending = len(d.queue)
		d.spans[0], d.spans[1] = d.spans[1], 0
		d.post(sendingQueue, d.queue)
	}
}

// daemonIsBack is called when a daemon has connected.
func (d *delivery) daemonIsBack() {
	if d.stage == idle {
		d.sendSpool()
	}
}

func (d *delivery) sendSpool() {
	if frame := d.spool.next(); frame != nil {
		d.post(sendingSpool, frame)
	}
}

// post begins a POST of body.
func (d *delivery) post(s stage, body []byte) {
	d.stage = s
	d.timeout.set(deliveryTimeout)
	fd, e := connect(d.m.config.TelemetrySocket)
	if e != 0 {
		d.failed()
		return
	}
	d.sock = fd
	d.request = append(d.request[:0], "POST /v1/traces HTTP/1.1\r\nHost: vitrined\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Length: "...)
	d.request = append(strconv.AppendInt(d.request, int64(len(body)), 10), "\r\n\r\n"...)
	d.request = append(d.request, body...)
	d.answer = d.answer[:0]
	d.m.watch(fd, syscall.EPOLLIN|syscall.EPOLLOUT, d)
}

// connect opens the stream socket at path, which may be longer than an address can be.
func connect(path string) (int, syscall.Errno) {
	i := strings.LastIndexByte(path, '/')
	dir, err := syscall.Open(path[:i+1], oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, errno(err)
	}
	defer syscall.Close(dir)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, errno(err)
	}
	name := "/proc/self/fd/" + strconv.Itoa(dir) + path[i:]
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: name}); err != nil {
		syscall.Close(fd)
		return -1, errno(err)
	}
	return fd, 0
}

// ready writes the request and reads the status line.
func (d *delivery) ready(uint32) {
	for len(d.request) > 0 {
		n, e := write(d.sock, d.request)
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 {
			d.failed()
			return
		}
		if d.request = d.request[n:]; len(d.request) == 0 {
			d.m.watch(d.sock, syscall.EPOLLIN, d)
		}
	}
	var buf [64]byte
	n, e := read(d.sock, buf[:])
	if e == syscall.EAGAIN {
		return
	}
	const ok = "HTTP/1.1 2"
	d.answer = append(d.answer, buf[:n]...)
	switch {
	case strings.HasPrefix(string(d.answer), ok):
		d.delivered()
	case n == 0 || len(d.answer) >= len(ok):
		d.failed()
	}
}

func (d *delivery) end() (ended stage) {
	ended, d.stage = d.stage, idle
	d.timeout.at = 0
	d.m.drop(&d.sock)
	d.request = nil
	return ended
}

// delivered is called when the daemon has accepted; what waits goes next.
func (d *delivery) delivered() {
	if d.end() == sendingSpool {
		d.spool.done()
	} else {
		d.m.counts.SpansSent += d.spans[0]
		d.dequeue()
	}
	if len(d.queue) == 0 {
		d.sendSpool()
	}
}

// failed is called when the daemon is away, refuses or does not answer.
func (d *delivery) failed() {
	if d.end() == sendingQueue {
		d.keep(d.queue[:d.sending], d.spans[0])
		d.dequeue()
	}
}

func (d *delivery) dequeue() {
	n := copy(d.queue, d.queue[d.sending:])
	d.queue, d.sending, d.spans[0] = d.queue[:n], 0, 0
}

// release gives the queue's memory back when it is empty.
func (d *delivery) release() {
	if len(d.queue) == 0 && cap(d.queue) > 0 {
		giveBack(d.queue[:cap(d.queue)])
	}
}

// closeGrace bounds how long a monitor that ends waits for its last delivery, in milliseconds.
const closeGrace = 300

// close delivers what is queued, within the bound, and spools the rest.
func (d *delivery) close() {
	deadline := uptime() + closeGrace*1e6
	for d.flush(); d.stage != idle && uptime() < deadline; d.flush() {
		d.m.wait(closeGrace / 10)
	}
	if d.stage == sendingQueue {
		d.failed()
	}
	d.spool.close()
}
