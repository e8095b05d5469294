package telemetry

import (
	"cmp"
	"slices"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// live are the spans of this process that have begun and not ended, so that a step
// that hangs is seen while it hangs. It is safe for concurrent use.
type live struct {
	service string
	mu      sync.Mutex // guards spans
	spans   map[trace.SpanID]sdktrace.ReadOnlySpan
}

// maxLive bounds the map; spans beyond it are recorded only when they end.
const maxLive = 1 << 14

func newLive(service string) *live {
	return &live{service: service, spans: map[trace.SpanID]sdktrace.ReadOnlySpan{}}
}

// begin reports false when there is no room.
func (l *live) begin(s sdktrace.ReadOnlySpan) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spans) >= maxLive {
		return false
	}
	l.spans[s.SpanContext().SpanID()] = s
	return true
}

func (l *live) end(id trace.SpanID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spans, id)
}

// sampled says whether a trace is exported; seen is false without a live span of it.
func (l *live) sampled(id trace.TraceID) (sampled, seen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.spans {
		if sc := s.SpanContext(); sc.TraceID() == id {
			return sc.IsSampled(), true
		}
	}
	return false, false
}

// records are the unfinished spans as they look now, in order of their start.
func (l *live) records(now time.Time) []record {
	l.mu.Lock()
	spans := make([]sdktrace.ReadOnlySpan, 0, len(l.spans))
	for _, s := range l.spans {
		spans = append(spans, s)
	}
	l.mu.Unlock()
	records := make([]record, 0, len(spans))
	for _, s := range spans {
		r := recordSDK(s, l.service)
		if s.EndTime().IsZero() { // else it ended just now and is not in the store yet
			r.End, r.Unfinished = max(now.UnixNano(), r.Start), true
		}
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.Start, b.Start) })
	return records
}

// each calls emit with the name and the age of every live span.
func (l *live) each(emit func(name string, age time.Duration)) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.spans {
		emit(waterfall.ShortName(s.Name()), now.Sub(s.StartTime()))
	}
}
