package waterfall

import (
	"cmp"
	"slices"
)

// Key cuts out of a trace what explains the time and the outcome of the span root: the
// span itself, what failed below it, and the steps that took a twentieth of it or
// more, the largest first, each with the steps that contain it; at most limit spans.
// It is empty when the trace does not have the span.
func Key(t *Trace, root string, limit int) *Trace {
	kept := &Trace{ID: t.ID}
	top := t.Span(root)
	if top == nil {
		return kept
	}
	below := t.below(root)
	chosen := map[string]bool{root: true}
	slices.SortStableFunc(below, func(a, b Span) int {
		return cmp.Or(-compareBool(a.Error || a.Unfinished, b.Error || b.Unfinished), cmp.Compare(b.Duration(), a.Duration()))
	})
	for _, s := range below {
		if !s.Error && !s.Unfinished && s.Duration() < top.Duration()/20 {
			continue
		}
		var path []string // up to something that is chosen already
		for at := s; !chosen[at.ID]; at = *t.Span(at.ParentID) {
			path = append(path, at.ID)
		}
		if len(chosen)+len(path) > limit {
			continue
		}
		for _, id := range path {
			chosen[id] = true
		}
	}
	for _, s := range t.Spans {
		if chosen[s.ID] {
			kept.Spans = append(kept.Spans, s)
		}
	}
	kept.Dropped = len(below) + 1 - len(kept.Spans)
	kept.Sort()
	return kept
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// below are all spans under root, each after the one that contains it.
func (t *Trace) below(root string) []Span {
	seen := map[string]bool{root: true} // a cycle in what was reported ends here
	var all []Span
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		for _, child := range t.Children(queue[0]) {
			if !seen[child.ID] {
				seen[child.ID] = true
				all = append(all, child)
				queue = append(queue, child.ID)
			}
		}
	}
	return all
}
