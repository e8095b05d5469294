package telemetry

import (
	"slices"
	"sync"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// maxHandlers bounds the traces whose handler is remembered; the oldest gives way.
const maxHandlers = 4096

// handlers knows by which runtime handler the pod of a trace is run. The operations on a
// pod say it, their steps, which are other rooms' and other processes', do not; a step
// that comes after its trace was forgotten counts for no handler. It is safe for
// concurrent use.
type handlers struct {
	mu      sync.Mutex // guards the fields below
	byTrace map[trace.TraceID]string
	order   [maxHandlers]trace.TraceID
	next    int
}

// begun is called with every span of the daemon that begins.
func (h *handlers) begun(s sdktrace.ReadOnlySpan) {
	if !slices.Contains(begins, s.Name()) {
		return
	}
	for _, a := range s.Attributes() {
		if a.Key == KeyHandler {
			h.learn(s.SpanContext().TraceID(), a.Value.AsString())
			return
		}
	}
}

func (h *handlers) learn(id trace.TraceID, handler string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byTrace == nil {
		h.byTrace = map[trace.TraceID]string{}
	}
	if _, known := h.byTrace[id]; !known {
		delete(h.byTrace, h.order[h.next])
		h.order[h.next] = id
		h.next = (h.next + 1) % maxHandlers
	}
	h.byTrace[id] = handler
}

// of is the handler of a span: its own word, or that of its trace.
func (h *handlers) of(r *record) string {
	if own := r.Text(string(KeyHandler)); own != "" {
		return own
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byTrace[r.trace]
}
