package logfile

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// writeCalls is how often this thread has called write(2) and its like (proc(5), io).
func writeCalls(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Skip("the kernel does not count system calls (CONFIG_TASK_IO_ACCOUNTING): ", err)
	}
	_, rest, _ := strings.Cut(string(raw), "syscw: ")
	n, err := strconv.Atoi(strings.SplitN(rest, "\n", 2)[0])
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	return n
}

// A count holds on a machine of any speed, where a throughput does not.
func TestOneReadOfOrdinaryLinesLeavesInOneWrite(t *testing.T) {
	const read = 64 << 10 // what the monitor takes at a time
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range []struct {
		name    string
		limited bool
		line    int // bytes, its end included
		writes  int // of one read
	}{
		{"100 bytes", false, 100, 1},
		{"100 bytes, within a limit", true, 100, 1},
		{"1000 bytes", false, 1000, 1},
		{"40 bytes, which become more than a batch", false, 40, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := open(t, 0)
			s := NewStream(false)
			if c.limited {
				s.SetLimit(Limit{Policy: Drop, Rate: 1 << 30})
			}
			stream := bytes.Repeat(append(bytes.Repeat([]byte("x"), c.line-1), '\n'), 16*read/c.line)
			data, reads := stream, 0
			before := writeCalls(t)
			for ; len(data) > 0; reads++ { // most reads end inside a line
				n := min(read, len(data))
				w.Write(s, 1, data[:n])
				data = data[n:]
			}
			if got := writeCalls(t) - before; got > reads*c.writes {
				t.Errorf("%d writes for %d reads, at most %d each", got, reads, c.writes)
			}
			if want := uint64(len(stream) / c.line); w.Lines != want || w.BytesIn != uint64(len(stream)) {
				t.Errorf("%d lines of %d, counters %+v", w.Lines, want, w.Counters)
			}
		})
	}
}
