package telemetry

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// Trace is what the node remembers of one trace; see package waterfall.
type Trace = waterfall.Trace

// Traces is the answer to GET /v1/traces.
type Traces struct {
	Traces []waterfall.Summary `json:"traces"`
}

// Bounds of one answer.
const (
	standardLimit = 20
	maxLimit      = 1000
)

// APIHandler serves the node's traces as JSON:
//
//	GET /v1/traces?pod=QUERY&limit=N&reads=1   the latest first
//	GET /v1/traces/TRACEID
//
// QUERY is namespace/pod, namespace/pod/container, a pod's name or uid, a sandbox's
// or container's id, or the first six digits or more of one of these ids. Steps that
// are going on are included, marked as unfinished. reads=1 includes read-only calls.
func (t *Telemetry) APIHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		limit := standardLimit
		if text := r.FormValue("limit"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				answer(w, http.StatusBadRequest, problem{"limit must be a positive number"})
				return
			}
			limit = min(n, maxLimit)
		}
		list := Traces{Traces: []waterfall.Summary{}}
		for _, found := range t.Find(r.FormValue("pod"), r.FormValue("reads") == "1", limit) {
			list.Traces = append(list.Traces, waterfall.Summarize(found))
		}
		answer(w, http.StatusOK, list)
	})
	mux.HandleFunc("GET /v1/traces/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := trace.TraceIDFromHex(r.PathValue("id"))
		if err != nil {
			answer(w, http.StatusBadRequest, problem{"a trace id is 32 lower-case hexadecimal digits"})
			return
		}
		found := t.Trace(id)
		if found == nil {
			answer(w, http.StatusNotFound, problem{"no trace " + id.String() + " on this node"})
			return
		}
		answer(w, http.StatusOK, found)
	})
	return mux
}

// problem is the JSON of a refusal.
type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// Trace returns one trace with its unfinished steps, nil when the node has none.
func (t *Telemetry) Trace(id trace.TraceID) *Trace {
	t.ended.settle()
	// Unfinished first: a step that ends in between is then seen twice, not never.
	unfinished := t.live.records(time.Now())
	found := t.store.get(id)
	for _, r := range unfinished {
		if r.trace == id {
			if found == nil {
				found = &Trace{ID: id.String()}
			}
			join(found, r)
		}
	}
	if found != nil {
		found.Sort()
	}
	return found
}

// Find returns the traces that match a query (see APIHandler), the latest first.
func (t *Telemetry) Find(query string, reads bool, limit int) []*Trace {
	t.ended.settle()
	unfinished := t.live.records(time.Now())
	found := t.store.find(query, reads, limit)
	byID := map[string]*Trace{}
	for _, f := range found {
		byID[f.ID] = f
	}
	for _, r := range unfinished {
		if id := r.trace.String(); byID[id] == nil && wanted(r, query, reads) {
			kept := t.store.get(r.trace)
			if kept == nil {
				kept = &Trace{ID: id}
			}
			byID[id] = kept
			found = append(found, kept)
		}
	}
	for _, r := range unfinished {
		if f := byID[r.trace.String()]; f != nil {
			join(f, r)
		}
	}
	for _, f := range found {
		f.Sort()
	}
	slices.SortStableFunc(found, func(a, b *Trace) int { return cmp.Compare(b.Spans[0].Start, a.Spans[0].Start) })
	return found[:min(len(found), limit)]
}

// join adds an unfinished step unless it has ended by now and is there already.
func join(t *Trace, r record) {
	if t.Span(r.ID) == nil {
		t.Spans = append(t.Spans, r.Span)
	}
}

// wanted matches an unfinished step against a query.
func wanted(r record, query string, reads bool) bool {
	if !reads && r.Kind == "server" && isRead(r.Name) {
		return false
	}
	if query == "" {
		return true
	}
	for _, key := range spanKeys(&r.Span) {
		if key == query || len(query) >= minPrefix && isID(query) && strings.HasPrefix(key, query) {
			return true
		}
	}
	return false
}

// isID is true for what may be the beginning of an id or uid.
func isID(text string) bool { return strings.Trim(text, "0123456789abcdef-") == "" }
