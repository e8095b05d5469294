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
	// Torn, LostBytes and LostLines are what the disk refused and no record tells of yet.
	Torn                 bool
	LostBytes, LostLines uint64
	// Tails are the kept beginnings of lines of stdout and stderr; Open says which of
	// the lines has a P record in the file. The tails alias the streams' memory.
	Tails [2][]byte
	Open  [2]bool
}

// Handover describes the writer between two calls of its other methods.
func (w *Writer) Handover(stdout, stderr *Stream) Handover {
	return Handover{
		Counters: w.Counters, Dir: w.dir, FD: w.fd, Last: w.last,
		Torn: w.torn, LostBytes: w.lost.bytes, LostLines: w.lost.lines,
		Tails: [2][]byte{stdout.tail, stderr.tail}, Open: [2]bool{stdout.open, stderr.open},
	}
}

// Resume goes on where h was taken, with the file's path and limit as Open takes
// them. It takes the descriptors over and copies the tails.
func Resume(path string, maxLine int, h *Handover, stdout, stderr *Stream) (*Writer, error) {
	if maxLine <= 0 {
		maxLine = DefaultMaxLine
	}
	w := &Writer{Counters: h.Counters, path: path, dir: h.Dir, fd: h.FD, max: min(maxLine, MaxMaxLine), last: h.Last,
		torn: h.Torn, lost: lost{h.LostBytes, h.LostLines}}
	for i, s := range [...]*Stream{stdout, stderr} {
		if len(h.Tails[i]) > w.max {
			return nil, syscall.EINVAL
		}
		s.tail, s.open = nil, h.Open[i]
		w.keep(s, h.Tails[i])
	}
	return w, nil
}
