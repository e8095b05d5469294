package monitor

import (
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/otlp"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// otlpSink sends the container's lines as OTLP log records to the daemon, in the trace
// of the container's start. One batch is filled while one is on its way; what comes
// while there is room in neither, and what the daemon does not take, is counted as
// dropped: the file has it.
type otlpSink struct {
	m     *monitor
	batch otlp.LogBatch
	buf   []byte
	late  []byte // of the program image before this one
	sent  uint64 // records on their way
	lateN uint64 // records in late
	timer timer
	exchange
}

const (
	// batchSize bounds one batch in bytes; it holds a line of maxLine three times over.
	batchSize = 128 << 10
	// batchDelay is how long a record waits for others, in milliseconds.
	batchDelay = 1000
)

// streamAttributes are those of the records, by stream; the second is of pieces that their line goes on behind.
var streamAttributes = [2][2]wire.Attribute{
	{{Key: "log.iostream", Value: "stdout"}, {Key: "vitrine.log.partial", Value: "true"}},
	{{Key: "log.iostream", Value: "stderr"}, {Key: "vitrine.log.partial", Value: "true"}},
}

func (o *otlpSink) init(m *monitor) {
	o.m = m
	o.exchange.init(m, o.posted)
	o.timer.fire = o.flush
	m.timers = append(m.timers, &o.timer)
}

func (o *otlpSink) record(s *stream, at int64, text string, ended bool) {
	r := &o.m.report
	in := r.start
	if in == (context{}) {
		in = r.creation
	}
	attributes := streamAttributes[s.index()][:]
	if ended {
		attributes = attributes[:1]
	}
	record := otlp.LogRecord{Time: at, Observed: at, Body: text, Trace: in.trace, Span: in.span, Attributes: attributes}
	if o.buf == nil {
		o.buf = mapBuffer(batchSize)
		o.batch.Use(o.buf)
	}
	if !o.batch.Add(&r.resource, &record) {
		o.flush()
		if !o.batch.Add(&r.resource, &record) {
			o.m.counts.OTLPDropped++
			return
		}
	}
	if o.timer.at == 0 {
		o.timer.set(batchDelay)
	}
}

// flush sends the batch unless one is on its way.
func (o *otlpSink) flush() {
	if o.sock >= 0 || o.sent > 0 {
		return
	}
	if o.late != nil {
		late := o.late
		o.sent, o.late, o.lateN = o.lateN, nil, 0
		o.exchange.begin("/v1/logs", late) // copies
		logfile.Unmap(late[:cap(late)])
		return
	}
	if body := o.batch.Bytes(); body != nil {
		o.timer.at = 0
		o.sent = uint64(o.batch.Records)
		o.exchange.begin("/v1/logs", body) // copies
		o.batch.Reset()
	}
}

func (o *otlpSink) posted(accepted bool) {
	if accepted {
		o.m.counts.OTLPRecords += o.sent
	} else {
		o.m.counts.OTLPDropped += o.sent
	}
	o.sent = 0
}

func (o *otlpSink) release() {
	o.exchange.release()
	if o.batch.Records == 0 {
		logfile.Release(o.buf)
	}
}

func (o *otlpSink) carry(f *fields, num int) {
	body, records := o.batch.Bytes(), uint64(o.batch.Records)
	if f.reading {
		body, records = nil, 0
	}
	f.bytes(num, &body)
	integer(f, num+1, &records)
	if f.reading && len(body) > batchSize {
		f.err = wire.ErrMalformed
	} else if f.reading && len(body) > 0 {
		o.late, o.lateN = append(mapBuffer(batchSize)[:0], body...), records
		o.timer.set(batchDelay)
	}
}
