package logfile

// Policy is what happens to a stream's output beyond its rate.
type Policy uint8

const (
	// Unlimited writes everything.
	Unlimited Policy = iota
	// Drop leaves lines out, in stretches: once the budget is spent nothing is written
	// until half of it has come back.
	Drop
	// Backpressure leaves nothing out: Pause says how long the stream should not be
	// read, and its writers wait at their full pipe.
	Backpressure
	// Sample is Drop, but of the lines of a stretch one in Limit.Sample is written.
	Sample
)

// Limit bounds one stream. Its zero value does not.
type Limit struct {
	Policy Policy
	// Rate is in bytes of content per second; 0 is no limit.
	Rate uint64
	// Burst is how many bytes may come at once after silence; 0 is Rate, and the least is MinBurst.
	Burst uint64
	// Sample: of this many lines one is kept; 0 is 100.
	Sample uint64
	// Pause bounds in milliseconds how long the stream is not read at a time, whatever
	// the rate; 0 is 1000.
	Pause uint64
}

// MinBurst is the least burst in bytes: a record of the default size has to fit.
const MinBurst = 16 << 10

// maxRate keeps the arithmetic of a bucket within 63 bits.
const maxRate = 1 << 40

// bucket is the budget of one stream: tokens are bytes, Rate of them come back each
// second, up to Burst.
//
//	within budget ──tokens ≤ 0 at the beginning of a line──► stretch (over)
//	              ◄──tokens ≥ Burst/2, after the marker────
//
// What happens to a line is decided at its beginning. Only a line that overdraws the
// budget by a whole burst is cut: its last record in the file is ended by the marker.
type bucket struct {
	Limit
	tokens int64
	at     int64 // when tokens was counted, in nanoseconds of the caller's clock
	over   bool  // in a stretch
	inside bool  // the next record continues a line
	skip   bool  // the line is left out from here on
	nth    uint64
	left   lost  // left out since the last marker
	held   int64 // milliseconds of pauses since the last marker
	told   int64 // when the last marker about pauses was written
}

// SetLimit bounds the stream from now on; a limit without a policy or rate ends it.
func (s *Stream) SetLimit(l Limit) {
	if l.Policy == Unlimited || l.Policy > Sample || l.Rate == 0 {
		s.limit = nil
		return
	}
	l.Rate = min(l.Rate, maxRate)
	if l.Burst == 0 {
		l.Burst = l.Rate
	}
	l.Burst = min(max(l.Burst, MinBurst), maxRate)
	if l.Sample == 0 {
		l.Sample = 100
	}
	if l.Pause == 0 {
		l.Pause = 1000
	}
	s.limit = &bucket{Limit: l, tokens: int64(l.Burst)}
}

// refill adds what has come back. A clock that was set back adds nothing once; it
// must not keep the budget empty until it is where it was.
func (b *bucket) refill(now int64) {
	if now < b.at || b.at == 0 {
		b.at = now
		return
	}
	passed := uint64(min(now-b.at, 1<<42)) // an hour
	back := int64(b.Rate/1e3*(passed/1e3)/1e3 + b.Rate%1e3*passed/1e9)
	if back >= int64(b.Burst)-b.tokens {
		b.tokens, b.at = int64(b.Burst), now
		return
	}
	b.tokens += back
	if back < 1e9 { // the time of what was not yet a byte is kept
		b.at += back * 1e9 / int64(b.Rate)
	} else {
		b.at = now
	}
}

// take decides whether a record of n content bytes is written; full says that it ends
// its line. mark asks for a marker before the record.
func (b *bucket) take(now int64, n int, full, cut bool) (keep, mark bool) {
	b.refill(now)
	begins := !b.inside
	b.inside = !full
	switch {
	case b.Policy == Backpressure:
		b.tokens -= int64(n)
		return true, false
	case begins:
		if b.over && b.tokens >= int64(b.Burst/2) {
			b.over = false
		} else if !b.over && b.tokens <= 0 {
			b.over, b.nth = true, 0
		}
		b.skip = b.over
		if b.over && b.Policy == Sample {
			b.nth++
			b.skip = b.nth%b.Sample != 0
		}
	case b.tokens <= -int64(b.Burst):
		b.over, b.skip = true, true
	}
	if b.skip {
		b.left.bytes += uint64(n)
		if full {
			b.left.bytes++
			b.left.lines++
		}
		return false, false
	}
	b.tokens = max(b.tokens-int64(n)-1, -int64(b.Burst)) // samples are paid for, as far as a stretch can pay
	return true, b.left.bytes > 0 && (!b.over || cut)
}

// limited applies the stream's limit to the record that is about to be written and
// reports whether it is left out.
func (w *Writer) limited(s *Stream, tag byte, n int) bool {
	b := s.limit
	keep, mark := b.take(w.clock, n, tag == 'F', s.open)
	if mark {
		w.flush()
		w.markLimit(s)
	}
	if keep {
		return false
	}
	w.Limited += uint64(n)
	if tag == 'F' {
		w.Limited++
		w.LimitedLines++
	}
	return true
}

// settle writes the marker of a stretch that silence, or with last the end of the
// stream, has interrupted. A line that is not over and not cut is left whole.
func (w *Writer) settle(s *Stream, now int64, last bool) {
	b := s.limit
	if b == nil || w.fd < 0 || s.open && !b.skip {
		return
	}
	if b.left.bytes > 0 || b.held > 0 && (last || b.tellsAgain(now)) {
		w.begin(now)
		w.markLimit(s)
	}
}

// markLimit writes the marker as a record of the stream, behind whole lines or, where
// a line was cut, as its end:
//
//	TIME stdout F [vitrine: 1234 bytes in 12 lines were left out, over 1000 bytes per second]
//	TIME stdout F [vitrine: output was held back for 900 ms, over 1000 bytes per second]
//
// When it cannot be written it is tried again before the next record.
func (w *Writer) markLimit(s *Stream) {
	b := s.limit
	var room [256]byte
	mark := append(room[:0], w.text[:]...)
	mark = append(append(append(mark, ' '), s.name...), " F [vitrine: "...)
	if b.left.bytes > 0 {
		mark = appendUint(mark, b.left.bytes)
		mark = append(mark, " bytes in "...)
		mark = appendUint(mark, b.left.lines)
		mark = append(mark, " lines were left out"...)
		if b.Policy == Sample {
			mark = append(mark, ", one line in "...)
			mark = appendUint(mark, b.Sample)
			mark = append(mark, " was kept"...)
		}
	} else {
		mark = append(mark, "output was held back for "...)
		mark = appendUint(mark, uint64(b.held))
		mark = append(mark, " ms"...)
	}
	mark = append(mark, ", over "...)
	mark = appendUint(mark, b.Rate)
	mark = append(mark, " bytes per second]\n"...)
	if w.writeMark(mark) {
		b.left, b.held, b.told = lost{}, 0, b.at
		s.open = false
	}
}

// tellEvery is how often at most a stream that is being held back says so, in nanoseconds.
const tellEvery = 60e9

func (b *bucket) tellsAgain(now int64) bool { return b.told == 0 || now-b.told >= tellEvery }

// Pause is how many milliseconds the stream should not be read, 0 when it is within
// its limit or its limit is not Backpressure. The caller is expected to obey: what it
// is told is counted.
func (w *Writer) Pause(s *Stream, now int64) int64 {
	b := s.limit
	if b == nil || b.Policy != Backpressure || w.fd < 0 {
		return 0
	}
	b.refill(now)
	if b.tokens > 0 {
		return 0
	}
	ms := uint64(int64(b.Burst/2)-b.tokens)*1000/b.Rate + 1
	ms = min(ms, b.Pause)
	b.tokens = max(b.tokens, -int64(b.Burst)) // a debt that pauses within the bound can pay
	b.held += int64(ms)
	w.Pauses++
	w.PausedMillis += ms
	if b.tellsAgain(now) && !s.open && len(s.tail) == 0 {
		w.begin(now)
		w.markLimit(s)
	}
	return int64(ms)
}
