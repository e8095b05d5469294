// Package waterfall owns traces as people look at them: their shape in JSON, which
// span is whose child, how much of a span its children explain, and the drawing of
// all that as text.
//
// It is pure: it reads no clock, no network and no terminal, and imports nothing
// outside the standard library, so that the command line does not link the SDK.
package waterfall

import (
	"cmp"
	"slices"
	"time"
)

// Trace is the spans of one trace id that one node remembers. It may be a part of
// a larger trace: a span whose parent is not among them is a root here.
type Trace struct {
	// ID is 32 lower-case hexadecimal digits.
	ID string `json:"traceId"`
	// Spans are in order of their start.
	Spans []Span `json:"spans"`
	// Dropped counts spans that the node did not keep because of its bounds.
	Dropped int `json:"droppedSpans,omitempty"`
}

// Span is one timed step.
type Span struct {
	// ID and ParentID are 16 lower-case hexadecimal digits; ParentID may be empty.
	ID       string `json:"spanId"`
	ParentID string `json:"parentSpanId,omitempty"`
	Name     string `json:"name"`
	// Kind is server, client, producer, consumer, or empty for internal.
	Kind string `json:"kind,omitempty"`
	// Service is the process that reported the span, as in service.name.
	Service string `json:"service,omitempty"`
	// Start and End are in nanoseconds since 1970. End of an unfinished span is the
	// moment of the answer.
	Start int64 `json:"startUnixNano"`
	End   int64 `json:"endUnixNano"`
	// Unfinished: the step was still going on.
	Unfinished bool `json:"unfinished,omitempty"`
	// Error: the step failed; Status is why.
	Error  bool   `json:"error,omitempty"`
	Status string `json:"status,omitempty"`
	// Attributes hold string, bool, int64, float64 or slices of them. Decoded from
	// JSON, numbers are float64.
	Attributes map[string]any `json:"attributes,omitempty"`
	Events     []Event        `json:"events,omitempty"`
	Links      []Link         `json:"links,omitempty"`
}

// Event is a named moment in a span.
type Event struct {
	Name       string         `json:"name"`
	Time       int64          `json:"timeUnixNano"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// Link points to a span of another trace that has to do with this one.
type Link struct {
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
	// Kind says what the other span is to this one, as in vitrine.link.kind; empty:
	// whoever reported it did not say.
	Kind string `json:"kind,omitempty"`
}

// Duration of the span; never negative.
func (s Span) Duration() time.Duration { return time.Duration(max(0, s.End-s.Start)) }

// Text returns a string attribute, empty when there is none.
func (s Span) Text(key string) string {
	text, _ := s.Attributes[key].(string)
	return text
}

// Sort puts the spans into order of start; the longer first, then by id, so that a
// parent precedes a child that began with it and the order never depends on chance.
func (t *Trace) Sort() {
	slices.SortFunc(t.Spans, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End), cmp.Compare(a.ID, b.ID))
	})
}

// Span returns the span with this id, nil when the trace has none.
func (t *Trace) Span(id string) *Span {
	for i := range t.Spans {
		if t.Spans[i].ID == id {
			return &t.Spans[i]
		}
	}
	return nil
}

// Roots are the spans whose parent the trace does not have, in order of start.
func (t *Trace) Roots() []Span {
	known := make(map[string]bool, len(t.Spans))
	for _, s := range t.Spans {
		known[s.ID] = true
	}
	var roots []Span
	for _, s := range t.Spans {
		if s.ParentID == "" || !known[s.ParentID] || s.ParentID == s.ID {
			roots = append(roots, s)
		}
	}
	return roots
}

// Children are the spans directly below id, in order of start.
func (t *Trace) Children(id string) []Span {
	var children []Span
	for _, s := range t.Spans {
		if s.ParentID == id && s.ID != id {
			children = append(children, s)
		}
	}
	return children
}

// Bounds are the first start and the last end of all spans; zero for an empty trace.
func (t *Trace) Bounds() (start, end int64) {
	for i, s := range t.Spans {
		if i == 0 || s.Start < start {
			start = s.Start
		}
		if i == 0 || s.End > end {
			end = s.End
		}
	}
	return start, end
}
