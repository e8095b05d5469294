package logfile

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	leftOut  = regexp.MustCompile(`(?m)^\[vitrine: (\d+) bytes in (\d+) lines were left out(, one line in \d+ was kept)?, over \d+ bytes per second\]\n`)
	heldBack = regexp.MustCompile(`(?m)^\[vitrine: output was held back for (\d+) ms, over \d+ bytes per second\]\n`)
)

// unmarked removes markers and adds up what they say was left out.
func unmarked(text string) (rest string, bytes, lines uint64) {
	for _, m := range leftOut.FindAllStringSubmatch(text, -1) {
		b, _ := strconv.ParseUint(m[1], 10, 64)
		l, _ := strconv.ParseUint(m[2], 10, 64)
		bytes, lines = bytes+b, lines+l
	}
	return leftOut.ReplaceAllString(text, ""), bytes, lines
}

// flood writes lines of 100 bytes, one every step nanoseconds of a clock of its own.
func flood(w *Writer, s *Stream, at *int64, lines int, step int64) {
	for i := range lines {
		*at += step
		w.Write(s, *at, fmt.Appendf(nil, "%08d %s\n", i, strings.Repeat("x", 90)))
	}
}

func TestLimitLeavesStretchesOutAndSaysSo(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit Limit
	}{
		{"drop", Limit{Policy: Drop, Rate: 100000, Burst: 50000}},
		{"drop, the burst is a second's", Limit{Policy: Drop, Rate: 100000}},
		{"drop, slow", Limit{Policy: Drop, Rate: 1500}},
		{"sample", Limit{Policy: Sample, Rate: 100000, Burst: 50000, Sample: 50}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, path := open(t, 0)
			s := NewStream(false)
			s.SetLimit(c.limit)
			at, seconds := int64(1), 20
			flood(w, s, &at, seconds*10000, 1e5) // ten lines a millisecond: 1 MB/s
			w.End(s, at)
			text := reassemble(t, read(t, path), DefaultMaxLine)["stdout"]
			rest, left, lines := unmarked(text)
			if left != w.Limited || lines != w.LimitedLines {
				t.Errorf("markers say %d bytes in %d lines, counters %d in %d", left, lines, w.Limited, w.LimitedLines)
			}
			if uint64(len(rest))+w.Limited != w.BytesIn || w.Lines+w.LimitedLines != uint64(seconds*10000) || w.Dropped != 0 {
				t.Errorf("%d bytes kept, counters %+v", len(rest), w.Counters)
			}
			for line := range strings.Lines(rest) {
				if len(line) != 100 {
					t.Fatalf("a line was cut: %q", line)
				}
			}
			burst := max(c.limit.Burst, MinBurst)
			if c.limit.Burst == 0 {
				burst = max(c.limit.Rate, MinBurst)
			}
			want := float64(uint64(seconds) * c.limit.Rate)
			if got := float64(len(rest)); got > want+2*float64(burst) || got < want-2*float64(burst) {
				t.Errorf("%.0f bytes in %d s, want about %.0f", got, seconds, want)
			}
			if n := strings.Count(text, "[vitrine:"); uint64(n) > uint64(seconds)*c.limit.Rate*2/burst+2 {
				t.Errorf("%d markers", n)
			}
		})
	}
}

func TestLimitLeavesAQuietStreamAlone(t *testing.T) {
	w, path := open(t, 0)
	quiet, loud := NewStream(false), NewStream(true)
	for _, s := range []*Stream{quiet, loud} {
		s.SetLimit(Limit{Policy: Drop, Rate: 20000})
	}
	at := int64(1)
	for range 1000 {
		flood(w, quiet, &at, 1, 5e6)
		flood(w, loud, &at, 50, 1e5)
	}
	w.End(loud, at)
	streams := reassemble(t, read(t, path), DefaultMaxLine)
	if len(streams["stdout"]) != 1000*100 || strings.Contains(streams["stdout"], "[vitrine:") {
		t.Errorf("%d bytes of the quiet stream", len(streams["stdout"]))
	}
	if _, left, _ := unmarked(streams["stderr"]); left != w.Limited || left == 0 {
		t.Errorf("left out %d, counted %d", left, w.Limited)
	}
}

func TestSilenceEndsAStretchWithItsMarker(t *testing.T) {
	w, path := open(t, 0)
	s := NewStream(false)
	s.SetLimit(Limit{Policy: Drop, Rate: 1000})
	at := int64(1)
	flood(w, s, &at, 1000, 1000)
	if strings.Contains(string(read(t, path)), "[vitrine:") {
		t.Fatal("a marker within the stretch")
	}
	w.FlushPartial(s, at+250e6) // what the monitor does in a silence
	_, left, _ := unmarked(reassemble(t, read(t, path), DefaultMaxLine)["stdout"])
	if left != w.Limited || left == 0 {
		t.Errorf("the marker says %d, counted %d", left, w.Limited)
	}
}

func TestLineWithoutAnEndIsCutByTheLimit(t *testing.T) {
	w, path := open(t, 0)
	s := NewStream(false)
	s.SetLimit(Limit{Policy: Drop, Rate: 100000})
	at := int64(1)
	for range 1000 {
		at += 1e6
		w.Write(s, at, bytes.Repeat([]byte("x"), 65536))
	}
	w.Write(s, at, []byte("\n"))
	at += 10e9
	w.Write(s, at, []byte("after\n"))
	got := reassemble(t, read(t, path), DefaultMaxLine)["stdout"]
	cut, rest, _ := strings.Cut(got, "[vitrine: ")
	if len(cut) > 400000 || strings.Trim(cut, "x") != "" || !strings.HasPrefix(rest, fmt.Sprint(w.Limited, " bytes in 1 lines")) || !strings.HasSuffix(rest, "]\nafter\n") {
		t.Errorf("%d bytes, then %.200q", len(cut), rest)
	}
	if uint64(len(cut))+w.Limited+uint64(len("after\n")) != w.BytesIn {
		t.Errorf("kept %d, counters %+v", len(cut), w.Counters)
	}
}

func TestBackpressureHoldsTheRateAndLosesNothing(t *testing.T) {
	for rate, pause := range map[uint64]uint64{100000: 0, 1 << 20: 100, 1 << 30: 0} {
		w, path := open(t, 0)
		s := NewStream(false)
		s.SetLimit(Limit{Policy: Backpressure, Rate: rate, Pause: pause})
		at, longest := int64(1), int64(0)
		chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 100)
		for range 2000 { // 20 MB
			w.Write(s, at, chunk)
			at += 1e3
			ms := w.Pause(s, at)
			at, longest = at+ms*1e6, max(longest, ms)
		}
		w.End(s, at)
		text := reassemble(t, read(t, path), DefaultMaxLine)["stdout"]
		if rest := heldBack.ReplaceAllString(text, ""); len(rest) != 2000*len(chunk) || w.Limited != 0 {
			t.Errorf("%d: %d bytes came back, counters %+v", rate, len(rest), w.Counters)
		}
		seconds := float64(at) / 1e9
		if got := float64(2000*len(chunk)) / seconds; got > 1.1*float64(rate) && w.Pauses > 0 || w.Pauses == 0 && rate < 1<<30 {
			t.Errorf("%d: %.0f bytes per second, %d pauses", rate, got, w.Pauses)
		}
		if bound := max(pause, 1000); longest > int64(bound) {
			t.Errorf("%d: held back for %d ms at a time", rate, longest)
		}
		held := int64(0)
		for _, m := range heldBack.FindAllStringSubmatch(text, -1) {
			n, _ := strconv.ParseInt(m[1], 10, 64)
			held += n
		}
		if uint64(held) != w.PausedMillis {
			t.Errorf("%d: markers say %d ms, counted %d", rate, held, w.PausedMillis)
		}
		if n := len(heldBack.FindAllString(text, -1)); float64(n) > seconds/60+2 {
			t.Errorf("%d: %d markers in %.0f s", rate, n, seconds)
		}
	}
}

func TestLimitSurvivesAClockThatIsSetBack(t *testing.T) {
	w, path := open(t, 0)
	s := NewStream(false)
	s.SetLimit(Limit{Policy: Drop, Rate: 100000})
	at := int64(7200e9)
	flood(w, s, &at, 2000, 1000)
	at -= 3600e9
	before := w.Lines
	flood(w, s, &at, 10000, 1e6) // ten seconds at the rate
	if got := w.Lines - before; got < 9000 {
		t.Errorf("%d lines of 10000 after the clock was set back", got)
	}
	reassemble(t, read(t, path), DefaultMaxLine)
}

func TestLimitedStreamAllocatesNothing(t *testing.T) {
	w, _ := open(t, 0)
	s := NewStream(false)
	s.SetLimit(Limit{Policy: Sample, Rate: 100000})
	data, at := bytes.Repeat([]byte("a line of some length that is quite ordinary\n"), 1000), int64(1)
	if n := testing.AllocsPerRun(100, func() {
		at += 1e8
		w.Write(s, at, data)
		w.FlushPartial(s, at)
	}); n != 0 {
		t.Errorf("%v allocations per write", n)
	}
}

// property: with rotations, silences and limits anywhere, each stream comes back byte
// for byte, but for what its markers say, to the byte, was left out.
func FuzzStreamsUnderLimits(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\x00three"), []byte{3, 0x91, 200, 7, 255}, uint8(0), uint16(5))
	f.Add(bytes.Repeat([]byte("line\n"), 9000), []byte{255, 1, 254, 3}, uint8(1), uint16(1))
	f.Add(bytes.Repeat([]byte("x"), 60000), []byte{250, 251, 252}, uint8(3), uint16(2))
	f.Fuzz(func(t *testing.T, input, script []byte, policy uint8, rate uint16) {
		if bytes.Contains(input, []byte("[vitrine: ")) || len(script) == 0 || len(input) > 1<<17 {
			return
		}
		w, path := open(t, 50+int(rate)%5000)
		limit := Limit{Policy: Policy(policy % 4), Rate: uint64(rate), Sample: uint64(policy)}
		streams := [2]*Stream{NewStream(false), NewStream(true)}
		var wrote [2]int
		for _, s := range streams {
			s.SetLimit(limit)
		}
		at, files := int64(1), []string{}
		for i, rest := 0, input; len(rest) > 0; i++ {
			op := script[i%len(script)]
			k, n := int(op&1), min(len(rest), 1+int(op)*int(op))
			if i >= 1000 { // byte by byte, one input would take seconds
				n = len(rest)
			}
			at += int64(op) * 1e5
			w.Write(streams[k], at, rest[:n])
			w.Pause(streams[k], at)
			wrote[k] += n
			rest = rest[n:]
			switch op % 7 {
			case 2:
				w.FlushPartial(streams[k], at)
			case 3:
				if len(files) > 20 {
					break
				}
				rotated := path + "." + strconv.Itoa(len(files))
				if err := os.Rename(path, rotated); err != nil {
					t.Fatal(err)
				}
				files = append(files, rotated)
				if err := w.Reopen(); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := map[string]string{}
		for _, s := range streams {
			w.End(s, at)
		}
		for _, file := range append(files, path) {
			for name, text := range reassemble(t, read(t, file), max(w.max, 200)) {
				got[name] += text
			}
		}
		total := uint64(0)
		for _, s := range streams {
			text := heldBack.ReplaceAllString(got[s.name], "")
			rest, left, _ := cutMarkers(text)
			total += uint64(rest) + left
		}
		// Each stream's last line may have got an end, and a cut line's beginning none.
		if total < w.BytesIn || total > w.BytesIn+2 {
			t.Fatalf("%d bytes in, %d came back or were accounted for: %+v", w.BytesIn, total, w.Counters)
		}
		if limit.Policy == Unlimited || limit.Policy == Backpressure || limit.Rate == 0 {
			if w.Limited != 0 {
				t.Fatalf("counters %+v", w.Counters)
			}
		}
	})
}

// cutMarkers is unmarked for markers that end a cut line.
func cutMarkers(text string) (rest int, left, lines uint64) {
	for {
		before, after, found := strings.Cut(text, "[vitrine: ")
		rest += len(before)
		if !found {
			return rest, left, lines
		}
		mark, behind, _ := strings.Cut(after, "\n")
		var b, l uint64
		fmt.Sscanf(mark, "%d bytes in %d lines", &b, &l)
		if strings.HasPrefix(mark, "output was held back") {
			b, l = 0, 0
		}
		left, lines, text = left+b, lines+l, behind
	}
}
