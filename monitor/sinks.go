package monitor

import (
	"bytes"
	"unicode/utf8"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
)

// sinks are where the container's lines go beside the log file. Each is bounded, never
// waits and counts what it leaves out; the file is not touched by what they do. They get
// what the container wrote, also where the file's limit leaves lines out.
type sinks struct {
	m       *monitor
	tails   [2][]byte // beginnings of lines whose end has not come; mapped
	partial [2]bool   // a piece of the line has been passed on, and not its end
	otlp    otlpSink
	journal journalSink
}

// maxLine is the longest line that is passed on whole, in bytes; longer ones come in
// pieces, of which all but the last are marked as such.
const maxLine = 32 << 10

func (k *sinks) init(m *monitor) {
	k.m = m
	k.otlp.init(m)
	k.journal = journalSink{m: m, fd: -1}
}

func (k *sinks) wanted() bool { return k.m.config.LogOTLP || k.m.config.LogJournal }

// write cuts data into lines and passes them on.
func (k *sinks) write(s *stream, at int64, data []byte) {
	if !k.wanted() {
		return
	}
	i := s.index()
	if k.tails[i] == nil {
		k.tails[i] = mapBuffer(maxLine)[:0]
	}
	for len(data) > 0 {
		line, ended := data, false
		if end := bytes.IndexByte(data, '\n'); end >= 0 {
			line, ended = data[:end], true
		}
		take := min(len(line), maxLine-len(k.tails[i]))
		k.tails[i] = append(k.tails[i], line[:take]...)
		if take < len(line) {
			data = data[take:]
			k.pass(s, at, false)
			continue
		}
		if ended {
			take++
			k.pass(s, at, true)
		}
		data = data[take:]
	}
}

// end passes on a line without an end.
func (k *sinks) end(s *stream) {
	if i := s.index(); len(k.tails[i]) > 0 || k.partial[i] {
		k.pass(s, now(), true)
	}
}

// pass gives the tail to every sink.
func (k *sinks) pass(s *stream, at int64, ended bool) {
	i := s.index()
	text := readable(k.tails[i])
	if k.m.config.LogOTLP {
		k.otlp.record(s, at, text, ended)
	}
	if k.m.config.LogJournal {
		k.journal.record(s, text, ended)
	}
	k.tails[i], k.partial[i] = k.tails[i][:0], !ended
}

// readable replaces, in place, what is no UTF-8: neither sink's peer would take it.
func readable(text []byte) string {
	if !utf8.Valid(text) {
		for i := 0; i < len(text); {
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && n == 1 {
				text[i] = '?'
			}
			i += n
		}
	}
	return unsafe.String(unsafe.SliceData(text), len(text))
}

// quiet is called when nothing has come for a while.
func (k *sinks) quiet() {
	k.otlp.flush()
	k.otlp.release()
	for i := range k.tails {
		if len(k.tails[i]) == 0 {
			logfile.Release(k.tails[i][:cap(k.tails[i])])
		}
	}
}

// close brings away what waits, within a bound.
func (k *sinks) close() {
	deadline := uptime() + closeGrace*1e6
	for k.otlp.flush(); k.otlp.sock >= 0 && uptime() < deadline; {
		k.m.wait(closeGrace / 10)
	}
}

// carry carries lines that have not ended and records that are not sent.
func (k *sinks) carry(f *fields, num int) {
	for i := range k.tails {
		tail := k.tails[i]
		f.bytes(num+i, &tail)
		f.flag(num+2+i, &k.partial[i])
		if f.reading && len(tail) > 0 {
			k.tails[i] = append(mapBuffer(maxLine)[:0], tail[:min(len(tail), maxLine)]...)
		}
	}
	k.otlp.carry(f, num+4)
}

// forget drops what a ledger may hold of an earlier moment. What a killed monitor had
// for the sinks and had not sent is not known.
func (k *sinks) forget() {
	k.partial = [2]bool{}
	for i := range k.tails {
		k.tails[i] = k.tails[i][:0]
	}
	k.otlp.late, k.otlp.lateN, k.otlp.timer.at = nil, 0, 0
}

func (s *stream) index() int {
	if s.stderr {
		return 1
	}
	return 0
}
