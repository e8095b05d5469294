package waterfall

import (
	"cmp"
	"slices"
	"strings"
)

// axis maps time to columns. Idle time between the traces that is long against the
// busy time is cut out and drawn as one column, so that steps of milliseconds stay
// visible beside a pause of minutes:
//
//	time     |== trace 1 ==|          10 s          |=== trace 2 ===|
//	columns  |=============|┊|===============|
type axis struct {
	width    int
	segments []segment
}

// segment is a stretch of time that is drawn to scale, from column left on.
type segment struct {
	interval
	left, columns float64
}

// cutShare is how long idle time must be, as a part of the busy time, to be cut.
const cutShare = 0.25

func newAxis(traces []*Trace, width int) *axis {
	var busy []interval
	for _, t := range traces {
		if start, end := t.Bounds(); len(t.Spans) > 0 {
			busy = append(busy, interval{start, max(end, start+1)})
		}
	}
	slices.SortFunc(busy, func(a, b interval) int { return cmp.Compare(a.start, b.start) })
	merged := busy[:0]
	var total int64
	for _, in := range busy {
		if n := len(merged); n > 0 && in.start <= merged[n-1].end {
			total += max(0, in.end-merged[n-1].end)
			merged[n-1].end = max(merged[n-1].end, in.end)
			continue
		}
		total += in.end - in.start
		merged = append(merged, in)
	}
	a := &axis{width: width}
	for _, in := range merged {
		if n := len(a.segments); n > 0 && float64(in.start-a.segments[n-1].end) <= cutShare*float64(total) {
			a.segments[n-1].end = in.end
			continue
		}
		a.segments = append(a.segments, segment{interval: in})
	}
	var drawn int64
	for _, s := range a.segments {
		drawn += s.end - s.start
	}
	room := float64(max(1, width-max(0, len(a.segments)-1)))
	left := 0.0
	for i := range a.segments {
		s := &a.segments[i]
		s.left, s.columns = left, room*float64(s.end-s.start)/float64(max(1, drawn))
		left += s.columns + 1
	}
	return a
}

// column is the place of a moment, in columns from the left; moments in a cut are at its edge.
func (a *axis) column(at int64) float64 {
	for _, s := range a.segments {
		if at <= s.start {
			return s.left
		}
		if at <= s.end {
			return s.left + s.columns*float64(at-s.start)/float64(s.end-s.start)
		}
	}
	if n := len(a.segments); n > 0 {
		return a.segments[n-1].left + a.segments[n-1].columns
	}
	return 0
}

const (
	fullBlock = '█'
	cutMark   = '┊'
)

var leftBlocks = [...]rune{' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'}

// bar draws an interval in eighths of a column; something is always visible.
func (a *axis) bar(start, end int64) string {
	from := int(a.column(start)*8 + 0.5)
	from = min(from, a.width*8-1)
	to := min(max(int(a.column(end)*8+0.5), from+1), a.width*8)
	cells := a.empty()
	for i := from / 8; i*8 < to && i < a.width; i++ {
		in := max(from, i*8) - i*8 // first eighth of the cell that is filled
		n := min(to, i*8+8) - i*8 - in
		switch {
		case n == 8:
			cells[i] = fullBlock
		case in == 0:
			cells[i] = leftBlocks[n]
		case in+n < 8: // inside one cell: the nearest glyph begins at its left
			cells[i] = leftBlocks[n]
		case n == 1:
			cells[i] = '▕'
		case n < 6:
			cells[i] = '▐'
		default:
			cells[i] = fullBlock
		}
	}
	return strings.TrimRight(string(cells), " ")
}

// empty is a line with nothing on it but the cuts.
func (a *axis) empty() []rune {
	cells := []rune(strings.Repeat(" ", a.width))
	for _, s := range a.segments[min(1, len(a.segments)):] {
		if i := int(s.left) - 1; i >= 0 && i < a.width {
			cells[i] = cutMark
		}
	}
	return cells
}

// ruler is the line above the bars: offsets of the ends of each segment, where they fit.
func (a *axis) ruler() string {
	cells := a.empty()
	if len(a.segments) == 0 {
		return ""
	}
	zero := a.segments[0].start
	put := func(at int, text string) {
		runes := []rune(text)
		if at < 0 || at+len(runes) > a.width {
			return
		}
		for i := max(0, at-1); i < min(a.width, at+len(runes)+1); i++ {
			if cells[i] != ' ' && cells[i] != cutMark {
				return
			}
		}
		copy(cells[at:], runes)
	}
	for _, s := range a.segments {
		put(int(s.left), Duration(duration(s.start-zero)))
		end := Duration(duration(s.end - zero))
		put(int(s.left+s.columns)-len([]rune(end)), end)
	}
	return strings.TrimRight(string(cells), " ")
}
