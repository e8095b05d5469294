package logfile

import "syscall"

// Handover is what another program image, or another monitor, needs to go on with a
// Writer and its streams: at the next byte, in the middle of a line. The descriptors
// stay the Writer's.
type Handover struct {
	Counters
	// Dir and FD are the file's directory and the file, -1 when output is discarded.
	Dir, FD int
	// Last is the latest timestamp, in nanoseconds since 1970.
	Last int64
	// Torn, LostBytes and LostLines are what the disk refused, of stdout and stderr, and
	// no record tells of yet.
	Torn                 bool
	LostBytes, LostLines [2]uint64
	// Limits are where the streams stand with their limits, which SetLimit sets again first.
	Limits [2]LimitState
	// Tails are the kept beginnings of lines of stdout and stderr; Open says which of
	// the lines has a P record in the file. The tails alias the streams' memory.
	Tails [2][]byte
	Open  [2]bool
}

// Handover describes the writer between two calls of its other methods.
func (w *Writer) Handover(stdout, stderr *Stream) Handover {
	return Handover{
		Counters: w.Counters, Dir: w.dir, FD: w.fd, Last: w.last, Torn: w.torn,
		LostBytes: [2]uint64{w.lost[0].bytes, w.lost[1].bytes}, LostLines: [2]uint64{w.lost[0].lines, w.lost[1].lines},
		Limits: [2]LimitState{stdout.limitState(), stderr.limitState()},
		Tails:  [2][]byte{stdout.tail, stderr.tail}, Open: [2]bool{stdout.open, stderr.open},
	}
}

// Tail is the kept beginning of a line; it aliases the stream's memory.
func (s *Stream) Tail() []byte { return s.tail }

// Resume goes on where h was taken, with the file's path and limit as OpenBelow takes
// them. It takes the descriptors over and copies the tails.
func Resume(path string, trusted, maxLine int, h *Handover, stdout, stderr *Stream) (*Writer, error) {
	return new(Writer).Resume(path, trusted, maxLine, h, stdout, stderr)
}

// Resume is the function, for a Writer that stands somewhere already; it returns w.
func (w *Writer) Resume(path string, trusted, maxLine int, h *Handover, stdout, stderr *Stream) (*Writer, error) {
	if maxLine <= 0 {
		maxLine = DefaultMaxLine
	}
	*w = Writer{Counters: h.Counters, path: path, trusted: trusted, dir: h.Dir, fd: h.FD, max: min(maxLine, MaxMaxLine), last: h.Last,
		torn: h.Torn}
	for i, s := range [...]*Stream{stdout, stderr} {
		if len(h.Tails[i]) > w.max {
			return nil, syscall.EINVAL
		}
		w.lost[i] = lost{h.LostBytes[i], h.LostLines[i]}
		s.resumeLimit(h.Limits[i])
		s.tail, s.open = nil, h.Open[i]
		w.keep(s, h.Tails[i])
	}
	return w, nil
}

// LimitState is where a stream stands with its limit.
type LimitState struct {
	// Tokens are the bytes that may come now, negative for a debt.
	Tokens int64
	// Over: a stretch is under way. Inside: the next record continues a line. Skip: it is left out.
	Over, Inside, Skip bool
	// LeftBytes, LeftLines and HeldMillis are what the next marker tells.
	LeftBytes, LeftLines uint64
	HeldMillis           int64
}

func (s *Stream) limitState() LimitState {
	b := s.limit
	if b == nil {
		return LimitState{}
	}
	return LimitState{Tokens: b.tokens, Over: b.over, Inside: b.inside, Skip: b.skip, LeftBytes: b.left.bytes, LeftLines: b.left.lines, HeldMillis: b.held}
}

func (s *Stream) resumeLimit(l LimitState) {
	if b := s.limit; b != nil {
		b.tokens = max(min(l.Tokens, int64(b.Burst)), -int64(b.Burst))
		b.over, b.inside, b.skip, b.left, b.held = l.Over, l.Inside, l.Skip, lost{l.LeftBytes, l.LeftLines}, max(l.HeldMillis, 0)
	}
}
