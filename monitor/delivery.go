package monitor

import (
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/otlp"
)

// queueSize bounds the telemetry that waits in memory, in bytes.
const queueSize = 64 << 10

// delivery brings spans to the daemon. What cannot be delivered goes to the spool, and from there when the
// daemon has come back.
type delivery struct {
	m       *monitor
	queue   []byte    // export requests; queue[:sending] is on its way
	spans   [2]uint64 // spans in queue[:sending] and behind it
	sending int
	stage   stage
	spool   spool
	exchange
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
	encoded := otlp.AppendTraces(d.m.draft, res, spans)
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
	d.exchange.begin("/v1/traces", body)
}

// posted is called when the daemon has answered, or did not.
func (d *delivery) posted(accepted bool) {
	if accepted {
		d.delivered()
	} else {
		d.failed()
	}
}

func (d *delivery) end() (ended stage) {
	ended, d.stage = d.stage, idle
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
		logfile.Release(d.queue[:cap(d.queue)])
	}
	d.exchange.release()
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
		d.exchange.end(false)
	}
	d.spool.close()
}
