package waterfall

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Coverage is the share of a span's time in which at least one of its direct
// children was going on: the union of their intervals within the span, divided by
// its duration. It is 1 for a span of no duration, 0 for one without children or
// one that the trace does not have.
func Coverage(t *Trace, spanID string) float64 {
	root := t.Span(spanID)
	if root == nil {
		return 0
	}
	if root.Duration() == 0 {
		return 1
	}
	var covered int64
	for _, in := range union(t.Children(spanID), root.Start, root.End) {
		covered += in.end - in.start
	}
	return float64(covered) / float64(root.Duration())
}

// Gap is time of a span that no child explains.
type Gap struct {
	// After is the name of the child that ended before the gap; empty at the start.
	After string
	// Start is the gap's offset from the span's start.
	Start, Duration time.Duration
}

// Gaps are the parts of a span without a child, the longest first.
func Gaps(t *Trace, spanID string) []Gap {
	root := t.Span(spanID)
	if root == nil {
		return nil
	}
	children := t.Children(spanID)
	var gaps []Gap
	at := root.Start
	add := func(until int64) {
		if until <= at {
			return
		}
		gap := Gap{Start: time.Duration(at - root.Start), Duration: time.Duration(until - at)}
		for _, c := range children {
			if c.End == at {
				gap.After = c.Name
			}
		}
		gaps = append(gaps, gap)
	}
	for _, in := range union(children, root.Start, root.End) {
		add(in.start)
		at = in.end
	}
	add(root.End)
	slices.SortStableFunc(gaps, func(a, b Gap) int { return cmp.Compare(b.Duration, a.Duration) })
	return gaps
}

// Report is the coverage of a span and, indented below it, of every descendant that
// has children, each with its longest gap. It is for failing tests and for people.
func Report(t *Trace, spanID string) string {
	var b strings.Builder
	seen := map[string]bool{}
	var walk func(id string, depth int)
	walk = func(id string, depth int) {
		span, children := t.Span(id), t.Children(id)
		if span == nil || seen[id] || depth > 0 && len(children) == 0 {
			return
		}
		seen[id] = true
		fmt.Fprintf(&b, "%s%s %.1f%% of %s", strings.Repeat("  ", depth), ShortName(span.Name), 100*Coverage(t, id), Duration(span.Duration()))
		if gaps := Gaps(t, id); len(gaps) > 0 {
			fmt.Fprintf(&b, ", longest gap %s at +%s", Duration(gaps[0].Duration), Duration(gaps[0].Start))
			if gaps[0].After != "" {
				fmt.Fprintf(&b, " after %s", ShortName(gaps[0].After))
			}
		}
		b.WriteByte('\n')
		for _, c := range children {
			walk(c.ID, depth+1)
		}
	}
	walk(spanID, 0)
	return b.String()
}

type interval struct{ start, end int64 }

// union merges the spans' intervals, clipped to [from, to], into disjoint ones in order.
func union(spans []Span, from, to int64) []interval {
	var all []interval
	for _, s := range spans {
		if in := (interval{max(s.Start, from), min(s.End, to)}); in.start < in.end {
			all = append(all, in)
		}
	}
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(a.start, b.start) })
	merged := all[:0]
	for _, in := range all {
		if n := len(merged); n > 0 && in.start <= merged[n-1].end {
			merged[n-1].end = max(merged[n-1].end, in.end)
			continue
		}
		merged = append(merged, in)
	}
	return merged
}
