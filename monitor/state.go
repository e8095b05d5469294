package monitor

import (
	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// The state of a monitor as one program image hands it to the next:
//
//	"vitrine-state"  version (1 byte)  fields
//
// The fields are in the encoding of monitor/wire; a field that a reader does not know
// is skipped, one that is missing leaves what prime made. To carry one more thing is
// one more line in carry, with a number that was never used, and no new version. A
// new version is for what an older reader would misunderstand; every build reads its
// own and the one before.
const (
	stateMagic   = "vitrine-state"
	stateVersion = 1
	minState     = 1
)

// maxState bounds a state in bytes: two tails and three queues are the large parts.
const maxState = 8 << 20

// carry names everything that outlives this program image. It writes the fields or
// reads them, as f says; it changes nothing outside this process and opens nothing.
func (m *monitor) carry(f *fields) {
	f.message(1, &m.config)
	f.message(2, &m.counts)
	integer(f, 3, &m.collectAt)
	f.fd(4, &m.control.listener)
	list(f, 5, &m.control.conns, func(f *fields, c *conn) { c.m = m; f.fd(1, &c.fd); f.flag(2, &c.lends) })

	c := &m.init
	integer(f, 10, &c.state)
	integer(f, 11, &c.pid)
	f.text(12, &c.group)
	integer(f, 13, &c.startedAt)
	f.flag(14, &c.sharesPIDs)
	f.fd(15, &c.verdict)
	f.bytes(16, &c.words.text)

	f.fd(20, &m.streams[0].fd)
	f.fd(21, &m.streams[1].fd)
	f.fd(23, &m.tty.peer)
	f.fd(24, &m.stdin.fd)
	f.flag(25, &m.stdin.tty)
	f.flag(26, &m.stdin.closing)
	f.flag(27, &m.stdin.armed)
	m.stdin.carry(f, 28)
	m.carryLog(f, 30)

	list(f, 40, &m.clients, func(f *fields, c *client) {
		if f.reading {
			c.prime(m)
		}
		f.conn(1, m, &c.conn)
		integer(f, 2, &c.id)
		f.fd(3, &c.in.fd)
		f.fd(4, &c.out[0].fd)
		f.fd(5, &c.out[1].fd)
		integer(f, 6, &c.out[0].skipped)
		integer(f, 7, &c.out[1].skipped)
		integer(f, 8, &c.stalled.at)
	})
	list(f, 41, &m.execs, func(f *fields, s *session) {
		s.m = m
		f.conn(1, m, &s.conn)
		integer(f, 2, &s.id)
		integer(f, 3, &s.pid)
		f.flag(4, &s.killed)
	})

	r := &m.report
	integer(f, 50, &r.begun)
	integer(f, 51, &r.startedAt)
	f.context(52, &r.start)
	integer(f, 53, &r.firstAt)
	f.flag(54, &r.firstTold)
	r.delivery.carry(f, 55)
	f.fdOrZero(57, &r.spool.fd)
	integer(f, 58, &r.spool.size)
	integer(f, 59, &r.spool.offset)

	m.sinks.carry(f, 70)

	f.fd(75, &m.notify.socket)
	integer(f, 76, &m.notify.last)
	list(f, 77, &m.notify.listeners, func(f *fields, l *listener) {
		l.m = m
		f.fd(1, &l.fd)
		integer(f, 2, &l.num)
		integer(f, 3, &l.first.pid)
		integer(f, 4, &l.first.began)
	})

	f.conn(60, m, &m.upgrade.waiter.conn)
	integer(f, 61, &m.upgrade.waiter.id)
	integer(f, 62, &m.upgrade.count)

	f.fd(90, &m.ledger.fd)
	integer(f, 91, &m.init.born)
	f.flag(95, &c.orphan)
	if c.orphan { // a parent opens its child's anew
		f.fd(96, &c.pidfd)
	}
	integer(f, 92, &m.streams[0].pipe)
	integer(f, 93, &m.streams[1].pipe)
	integer(f, 94, &m.stdin.pipe)
}

// carryLog carries the log writer with the beginnings of lines that it keeps.
func (m *monitor) carryLog(f *fields, num int) {
	h := logfile.Handover{Dir: -1, FD: -1}
	there := m.log != nil
	if there && !f.reading {
		h = m.log.Handover(m.streams[0].lines, m.streams[1].lines)
	}
	f.record(num, func(f *fields) {
		f.flag(1, &there)
		f.fd(2, &h.Dir)
		f.fd(3, &h.FD)
		integer(f, 4, &h.Last)
		f.flag(5, &h.Torn)
		integer(f, 6, &h.LostBytes[0])
		integer(f, 7, &h.LostLines[0])
		integer(f, 40, &h.LostBytes[1])
		integer(f, 41, &h.LostLines[1])
		for i := range h.Tails {
			f.bytes(8+i, &h.Tails[i])
			f.flag(10+i, &h.Open[i])
		}
		integer(f, 28, &h.LastError)
		for i, v := range logCounters(&h) {
			integer(f, 20+i, v)
		}
		for i, v := range limitCounters(&h) {
			integer(f, 42+i, v)
		}
		for i := range h.Limits {
			f.record(50+i, func(f *fields) { carryLimit(f, &h.Limits[i]) })
		}
	})
	if !there || !f.reading {
		return
	}
	m.limitStreams()
	var err error
	if m.log, err = m.room.log.Resume(m.config.LogPath, m.config.LogTrusted, m.config.LogMaxLine, &h, m.streams[0].lines, m.streams[1].lines); err != nil {
		f.err = err
		return
	}
	m.log.Guard = &m.guard
}

func carryLimit(f *fields, l *logfile.LimitState) {
	integer(f, 1, &l.Tokens)
	f.flag(2, &l.Over)
	f.flag(3, &l.Inside)
	f.flag(4, &l.Skip)
	integer(f, 5, &l.LeftBytes)
	integer(f, 6, &l.LeftLines)
	integer(f, 7, &l.HeldMillis)
}

// limitCounters are the further ones that rate limits count.
func limitCounters(h *logfile.Handover) [4]*uint64 {
	return [...]*uint64{&h.Limited, &h.LimitedLines, &h.Pauses, &h.PausedMillis}
}

// logCounters are the log's counters in the order of records; new ones go to the end.
func logCounters(h *logfile.Handover) [8]*uint64 {
	return [...]*uint64{&h.BytesIn, &h.BytesOut, &h.Lines, &h.Partials, &h.Dropped, &h.DroppedLines, &h.Errors, &h.Reopens}

}

// carry carries what a client has written and the container has not read.
func (s *stdin) carry(f *fields, num int) {
	kept := s.buf[s.off:s.len]
	f.bytes(num, &kept)
	if f.reading && len(kept) > scratchSize {
		f.err = wire.ErrMalformed
	} else if f.reading && len(kept) > 0 {
		s.buf = mapBuffer(scratchSize)
		s.off, s.len = 0, copy(s.buf, kept)
	}
}

// carry carries the spans that nobody has yet; nothing is under way then.
func (d *delivery) carry(f *fields, num int) {
	queue := d.queue
	f.bytes(num, &queue)
	integer(f, num+1, &d.spans[1])
	if f.reading && len(queue) > queueSize {
		f.err = wire.ErrMalformed
	} else if f.reading && len(queue) > 0 {
		buf := mapBuffer(queueSize)
		d.queue = buf[:copy(buf, queue)]
	}
}

// conn carries a reference to one of the connections.
func (f *fields) conn(num int, m *monitor, c **conn) {
	at := 0 // nobody
	for i, other := range m.control.conns {
		if !f.reading && other == *c {
			at = i + 1
		}
	}
	integer(f, num, &at)
	if f.reading && at > 0 && at <= len(m.control.conns) {
		*c = m.control.conns[at-1]
	}
}

// context carries a place in a trace.
func (f *fields) context(num int, c *context) {
	f.record(num, func(f *fields) {
		trace, span := c.trace[:], c.span[:]
		f.bytes(1, &trace)
		f.bytes(2, &span)
		copy(c.trace[:], trace)
		copy(c.span[:], span)
		f.flag(3, &c.sampled)
	})
}

// encodeState is the monitor as it is, and the descriptors that the state names. Both
// are valid until the next thing is encoded.
func (m *monitor) encodeState() (state []byte, fds []int) {
	f := fields{buf: append(append(m.draft[:0], stateMagic...), stateVersion), fds: m.room.fds[:0]}
	m.carry(&f)
	return f.buf, f.fds
}

// decodeState makes a primed monitor what state says. It touches no descriptor.
func (m *monitor) decodeState(state []byte) (fds []int, err *launch.Error) {
	head := len(stateMagic)
	if len(state) <= head || string(state[:head]) != stateMagic {
		return nil, fault("monitor.resume", launch.KindInvalid, "this is not the state of a monitor")
	}
	if v := state[head]; v < minState || v > stateVersion {
		return nil, fault("monitor.resume", launch.KindInvalid, "the state has version "+itoa(int(v))+", this program reads "+itoa(minState)+" to "+itoa(stateVersion))
	}
	f := fields{reading: true, buf: state[head+1:]}
	m.carry(&f)
	if f.err == nil && (m.config.Dir == "" || m.init.state > told) {
		f.err = wire.ErrMalformed
	}
	if f.err != nil {
		return nil, fault("monitor.resume", launch.KindInvalid, "the state cannot be read: "+f.err.Error())
	}
	return f.fds, nil
}
