package logfile

import (
	"bytes"
	"syscall"
)

const (
	// DefaultMaxLine is the content of one record at most, in bytes, unless Open is told otherwise.
	DefaultMaxLine = 16384
	// MaxMaxLine is the largest limit that Open takes.
	MaxMaxLine = 1 << 20
	// batch is the size at which records are written; larger writes cost ext4 more
	// per byte (measured: twice as much at 360 KiB).
	batch = 96 << 10
	// headLen is the part of a record before its content; both stream names are as long.
	headLen = stampLen + len(" stdout F ")
)

// Counters of a Writer, all since Open.
type Counters struct {
	// BytesIn is what the streams gave, BytesOut what stands in files.
	BytesIn, BytesOut uint64
	// Lines counts records tagged F that were written, Partials those tagged P.
	Lines, Partials uint64
	// Dropped counts bytes of the streams that could not be written, line ends
	// included; Errors the failed writes, of which LastError was the last.
	Dropped, DroppedLines, Errors uint64
	LastError                     syscall.Errno
	Reopens                       uint64
	// Limited counts bytes of the streams, line ends included, that their limits left out.
	Limited, LimitedLines uint64
	// Pauses counts how often Pause asked for one, PausedMillis how much together.
	Pauses, PausedMillis uint64
}

// Writer writes the records of two streams to one file. It is not safe for concurrent use.
type Writer struct {
	Counters
	// Guard is told of calls that may hang; nil for nobody. Open and its like forget it.
	Guard   Guard
	path    string
	trusted int // how much of path is not looked at for symbolic links, in bytes
	dir     int // O_PATH of the file's directory
	fd      int // -1: output is discarded
	max     int
	out     []byte // records not yet written; mapped
	clock   int64  // the moment of the batch, as the caller has it
	last    int64  // the latest timestamp
	stamp
	torn bool    // the file ends inside a record that could not be cut off
	lost [2]lost // drops since the last successful write, of stdout and stderr
	gaps [2]gap  // what was dropped while a call was under way
}

type lost struct{ bytes, lines uint64 }

// Stream is one of the container's streams.
type Stream struct {
	name string
	tail []byte // the beginning of a line whose end has not come; mapped, never longer than max
	open bool   // a P record of the line stands in the file
	// limit is nil for a stream without one.
	limit *bucket
}

// NewStream returns stdout or, with stderr, stderr.
func NewStream(stderr bool) *Stream {
	if stderr {
		return &Stream{name: "stderr"}
	}
	return &Stream{name: "stdout"}
}

// Open opens or creates the file at path for appending, mode 0640; an empty path
// discards. maxLine of 0 is DefaultMaxLine. The path must be absolute; the file must be
// a regular one and not reached by a symbolic link.
func Open(path string, maxLine int) (*Writer, error) { return OpenBelow(path, 0, maxLine) }

// OpenBelow is Open for a path of which only the first trusted bytes, a directory's
// name, may lead through symbolic links. What follows, at Open and at every Reopen, is
// resolved without any and without leaving that directory; one on the way is ELOOP.
func OpenBelow(path string, trusted, maxLine int) (*Writer, error) {
	return new(Writer).OpenBelow(path, trusted, maxLine)
}

// OpenBelow is the function, for a Writer that stands somewhere already; it returns w.
func (w *Writer) OpenBelow(path string, trusted, maxLine int) (*Writer, error) {
	if maxLine <= 0 {
		maxLine = DefaultMaxLine
	}
	*w = Writer{path: path, trusted: trusted, dir: -1, fd: -1, max: min(maxLine, MaxMaxLine)}
	if path == "" {
		return w, nil
	}
	if err := w.openDir(); err != nil {
		return nil, err
	}
	fd, err := w.openFile(false)
	if err != nil {
		syscall.Close(w.dir)
		return nil, err
	}
	w.fd = fd
	return w, nil
}

// Write takes data that was read from the stream at now, in nanoseconds since 1970,
// and writes the records it completes. A line whose end has not come is kept, up to
// the limit; FlushPartial writes it.
func (w *Writer) Write(s *Stream, now int64, data []byte) {
	w.BytesIn += uint64(len(data))
	if w.fd < 0 {
		return
	}
	w.begin(now)
	for len(data) > 0 {
		if s.limit == nil && len(s.tail) == 0 {
			if data = w.whole(s, data); len(data) == 0 {
				break
			}
		}
		line, rest, ended := cut(data)
		for len(s.tail)+len(line) > w.max {
			n := w.max - len(s.tail)
			w.record(s, 'P', line[:n])
			line = line[n:]
		}
		if ended {
			w.record(s, 'F', line)
		} else {
			w.keep(s, line)
		}
		data = rest
	}
	w.flush()
}

// whole writes the lines at the beginning of data that are records as they are: not
// longer than the limit and with their end. It returns the rest. It does what record does,
// without looking at what does not change from line to line.
func (w *Writer) whole(s *Stream, data []byte) (rest []byte) {
	var head [headLen]byte
	_ = append(append(append(append(head[:0], w.text[:]...), ' '), s.name...), " F "...) // it has the room
	out := w.out
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 || end > w.max {
			break
		}
		at, n := len(out), end+1
		if at+headLen+n > cap(out) {
			w.out = out
			w.flush()
			out, at = w.out, 0
		}
		out = out[:at+headLen+n]
		*(*[headLen]byte)(out[at:]) = head
		copy(out[at+headLen:], data[:n])
		data = data[n:]
		w.Lines++
		s.open = false
		if len(out) >= batch {
			w.out = out
			w.flush()
			out = w.out
		}
	}
	w.out = out
	return data
}

func cut(data []byte) (line, rest []byte, ended bool) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return data[:i], data[i+1:], true
	}
	return data, nil, false
}

// keep adds to the stream's tail, for which there is room.
func (w *Writer) keep(s *Stream, line []byte) {
	if len(line) == 0 {
		return
	}
	if s.tail == nil {
		s.tail = Map(w.max)
	}
	s.tail = append(s.tail, line...)
}

// FlushPartial writes a kept beginning of a line as a P record, so that a prompt or
// a progress line can be read before it ends.
func (w *Writer) FlushPartial(s *Stream, now int64) {
	if len(s.tail) > 0 {
		w.begin(now)
		w.record(s, 'P', nil)
		w.flush()
	}
	w.settle(s, now, false)
}

// End is called at the end of the stream: a line without an end gets its F record.
func (w *Writer) End(s *Stream, now int64) {
	if w.fd < 0 {
		return
	}
	if len(s.tail) > 0 || s.open {
		w.begin(now)
		w.record(s, 'F', nil)
		w.flush()
	}
	w.settle(s, now, true)
}

// begin prepares a batch of records with the timestamp now or, when the clock went
// back, the latest one.
func (w *Writer) begin(now int64) {
	w.clock, w.last = now, max(w.last, now, 0)
	w.set(w.last)
	if w.out == nil {
		w.out = Map(batch + w.max + 4096)
	}
	if w.Behind() {
		w.fill()
	}
}

// record adds the stream's tail and content as one record to the batch, and writes
// the batch when it is full.
func (w *Writer) record(s *Stream, tag byte, content []byte) {
	if s.limit != nil && w.limited(s, tag, len(s.tail)+len(content)) {
		s.tail = s.tail[:0]
		return
	}
	if len(w.out)+headLen+len(s.tail)+len(content)+1 > cap(w.out) {
		w.flush()
	}
	out := append(w.out, w.text[:]...)
	out = append(append(out, ' '), s.name...)
	out = append(out, ' ', tag, ' ')
	out = append(out, s.tail...)
	out = append(out, content...)
	w.out = append(out, '\n')
	s.tail = s.tail[:0]
	s.open = tag == 'P'
	if s.open {
		w.Partials++
	} else {
		w.Lines++
	}
	if len(w.out) >= batch {
		w.flush()
	}
}

// Release gives the buffers' memory back to the kernel. It may be called at any time;
// a tail is kept.
func (w *Writer) Release(streams ...*Stream) {
	Release(w.out)
	for _, s := range streams {
		if len(s.tail) == 0 {
			Release(s.tail)
		}
	}
}

// Close closes the file; kept tails are lost unless End was called.
func (w *Writer) Close() {
	if w.fd >= 0 {
		syscall.Close(w.fd)
		syscall.Close(w.dir)
		w.fd, w.dir = -1, -1
	}
}
