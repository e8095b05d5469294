package logfile

import (
	"bytes"
	"syscall"
)

// Guard is told of every system call that may wait for the file system. Such a call can
// hang for ever, and nothing else can be said of it before it returns.
type Guard interface {
	Enter()
	Leave()
}

// gap is what a stream gave while the file system did not answer.
type gap struct {
	of   *Stream
	lost lost
}

func (w *Writer) enter() {
	if w.Guard != nil {
		w.Guard.Enter()
	}
}

func (w *Writer) leave() {
	if w.Guard != nil {
		w.Guard.Leave()
	}
}

// Drop takes data like Write and throws it away, because a call of the Writer's is under
// way and does not return: it is the only method that may be called then. What was
// dropped is counted, and marked in the file by CatchUp or before the next record. What
// comes behind it may begin inside a line.
func (w *Writer) Drop(s *Stream, data []byte) {
	w.BytesIn += uint64(len(data))
	if w.fd < 0 {
		return
	}
	lines := uint64(bytes.Count(data, []byte{'\n'}))
	w.Dropped += uint64(len(data))
	w.DroppedLines += lines
	g := &w.gaps[s.index()]
	g.of = s
	g.lost.bytes += uint64(len(data))
	g.lost.lines += lines
}

// Behind reports whether there is something to catch up with.
func (w *Writer) Behind() bool { return w.gaps != [2]gap{} }

// CatchUp writes the marker of what was dropped. A line whose beginning was kept ends
// before it.
func (w *Writer) CatchUp(now int64) {
	if w.fd < 0 || !w.Behind() {
		return
	}
	w.begin(now)
	w.resume()
}

// fill turns the gaps into losses, of which resume writes the marker.
func (w *Writer) fill() {
	gaps := w.gaps
	w.gaps = [2]gap{}
	for i := range gaps {
		if s := gaps[i].of; s != nil && (len(s.tail) > 0 || s.open) {
			w.record(s, 'F', nil)
		}
	}
	w.flush()
	for i := range gaps {
		w.lost[i].bytes += gaps[i].lost.bytes
		w.lost[i].lines += gaps[i].lost.lines
	}
	w.Errors++
	w.LastError = syscall.ETIMEDOUT
}

func (s *Stream) index() int {
	if s.name == "stderr" {
		return 1
	}
	return 0
}
