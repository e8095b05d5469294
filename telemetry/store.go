package telemetry

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// identityKeys are the attributes by which traces are found, on the span itself or,
// for spans of monitors, on their resource.
var identityKeys = []string{
	string(KeyPodUID), string(KeyPodName), string(KeyNamespace),
	string(KeySandboxID), string(KeyContainerID), string(KeyContainerName),
}

// Bounds of the store beside its bytes.
const (
	// maxTraceSpans bounds one trace: a caller may use one trace id for everything.
	maxTraceSpans = 4096
	// maxTraceKeys bounds the names under which one trace is found.
	maxTraceKeys = 256
	// readShare of the bytes is for traces of read-only calls, so that a kubelet's
	// polling cannot push out the start of a pod.
	readShare = 0.125
)

// store keeps the last traces in memory, oldest out first, bounded in bytes. It is
// safe for concurrent use.
type store struct {
	mu sync.Mutex // guards all below
	// class 0 is what changes something, class 1 read-only calls.
	limit  [2]int
	bytes  [2]int
	order  [2]*list.List // of *entry, least recently extended first
	traces map[trace.TraceID]*entry
	index  map[string][]*entry
	words  words
}

// entry is one trace of the store.
type entry struct {
	id      trace.TraceID
	spans   int
	packed  []byte // the spans, see packed.go
	start   int64  // of the first of them
	dropped int
	bytes   int
	class   int
	// acts: a call that changes something is among the spans.
	acts bool
	// sampled: some span of the trace is exported.
	sampled bool
	keys    []string
	element *list.Element
}

func newStore(bytes int) *store {
	bytes = cmp.Or(bytes, 16<<20)
	reads := int(float64(bytes) * readShare)
	return &store{
		limit:  [2]int{bytes - reads, reads},
		order:  [2]*list.List{list.New(), list.New()},
		traces: map[trace.TraceID]*entry{},
		index:  map[string][]*entry{},
	}
}

// verdict is what became of a span.
type verdict int

const (
	added verdict = iota
	// known: a monitor that missed the answer reports again.
	known
	// tooLong: the trace has as many spans as one may have.
	tooLong
)

// Estimates of what the store's own books take, in bytes.
const (
	entrySize = 512
	keySize   = 64
)

// add keeps a span. The record stays the caller's.
func (s *store) add(r *record) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.traces[r.trace]
	if e == nil {
		e = &entry{id: r.trace, start: r.Start, bytes: entrySize}
		e.element = s.order[0].PushBack(e)
		s.traces[r.trace] = e
		s.bytes[0] += e.bytes
	}
	s.order[e.class].MoveToBack(e.element)
	e.sampled = e.sampled || r.sampled
	if r.received && s.words.packedHas(e.packed, r.ID) {
		return known
	}
	if e.spans >= maxTraceSpans {
		e.dropped++
		return tooLong
	}
	size := -cap(e.packed)
	e.packed = s.words.pack(e.packed, &r.Span)
	size += cap(e.packed)
	e.spans++
	e.start = min(e.start, r.Start)
	for _, key := range spanKeys(&r.Span) {
		if len(e.keys) < maxTraceKeys && !slices.Contains(e.keys, key) {
			e.keys = append(e.keys, key)
			size += len(key) + keySize
			s.index[key] = append(s.index[key], e)
		}
	}
	e.bytes += size
	s.bytes[e.class] += size
	if r.Kind == trace.SpanKindServer.String() {
		s.classify(e, r)
	}
	s.evict(e)
	return added
}

// classify moves a trace between the two rings when a call of it has ended. Reads
// that failed in the runtime or took a second are kept as long as what changes something.
func (s *store) classify(e *entry, r *record) {
	if !isRead(r.Name) || r.Error || r.Duration().Seconds() >= 1 {
		e.acts = true
	}
	class := 1
	if e.acts {
		class = 0
	}
	if class == e.class {
		return
	}
	s.order[e.class].Remove(e.element)
	s.bytes[e.class] -= e.bytes
	e.class = class
	s.bytes[class] += e.bytes
	e.element = s.order[class].PushBack(e)
}

// evict makes room; the trace that was just extended stays, also when it alone is too large.
func (s *store) evict(keep *entry) {
	for class := range s.order {
		for s.bytes[class] > s.limit[class] {
			oldest := s.order[class].Front().Value.(*entry)
			if oldest == keep {
				break
			}
			s.remove(oldest)
		}
	}
}

func (s *store) remove(e *entry) {
	s.order[e.class].Remove(e.element)
	s.bytes[e.class] -= e.bytes
	delete(s.traces, e.id)
	for _, key := range e.keys {
		others := s.index[key]
		if i := slices.Index(others, e); i >= 0 { // the oldest, so among the first
			others = slices.Delete(others, i, i+1)
		}
		if s.index[key] = others; len(others) == 0 {
			delete(s.index, key)
		}
	}
}

// sampled says whether a trace is exported; known is false for one never seen.
func (s *store) sampled(id trace.TraceID) (sampled, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.traces[id]; e != nil {
		return e.sampled, true
	}
	return false, false
}

// get returns a copy of one trace, sorted; nil when it is not kept.
func (s *store) get(id trace.TraceID) *waterfall.Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.traces[id]; e != nil {
		return s.copy(e)
	}
	return nil
}

// find returns the traces that match a query, the latest first, at most limit. An
// empty query matches every trace. reads includes read-only calls.
func (s *store) find(query string, reads bool, limit int) []*waterfall.Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*entry
	add := func(e *entry) {
		if reads || e.class == 0 {
			found = append(found, e)
		}
	}
	switch {
	case query == "":
		for _, e := range s.traces {
			add(e)
		}
	default:
		for _, e := range s.match(query) {
			add(e)
		}
	}
	slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(b.start, a.start) })
	var traces []*waterfall.Trace
	for _, e := range found[:min(len(found), limit)] {
		traces = append(traces, s.copy(e))
	}
	return traces
}

// minPrefix is how many digits of an id name it.
const minPrefix = 6

// match looks a query up: exactly first, then, when it looks like the beginning of an
// id, by prefix.
func (s *store) match(query string) []*entry {
	if exact := s.index[query]; len(exact) > 0 {
		return exact
	}
	if len(query) < minPrefix || !isID(query) {
		return nil
	}
	seen := map[*entry]bool{}
	var matches []*entry
	for key, entries := range s.index {
		if !strings.HasPrefix(key, query) {
			continue
		}
		for _, e := range entries {
			if !seen[e] {
				seen[e] = true
				matches = append(matches, e)
			}
		}
	}
	return matches
}

func (s *store) copy(e *entry) *waterfall.Trace {
	t := &waterfall.Trace{ID: e.id.String(), Spans: s.words.unpack(e.packed, e.spans), Dropped: e.dropped}
	t.Sort()
	return t
}

// spanKeys are the names under which a span's trace is found: pod uid, sandbox and
// container id, namespace/pod, pod, namespace/pod/container, the image of a pull.
func spanKeys(s *waterfall.Span) []string {
	var keys []string
	add := func(key string) {
		if key != "" {
			keys = append(keys, key)
		}
	}
	add(s.Text(string(KeyPodUID)))
	add(s.Text(string(KeySandboxID)))
	add(s.Text(string(KeyContainerID)))
	if strings.HasSuffix(s.Name, "/PullImage") {
		add(s.Text(string(KeyImageName)))
	}
	if name := s.Text(string(KeyPodName)); name != "" {
		add(name)
		if ns := s.Text(string(KeyNamespace)); ns != "" {
			add(ns + "/" + name)
			if c := s.Text(string(KeyContainerName)); c != "" {
				add(ns + "/" + name + "/" + c)
			}
		}
	}
	return keys
}

// each reports the fill of the two rings.
func (s *store) each(report func(class string, bytes, traces int)) {
	s.mu.Lock()
	bytes, counts := s.bytes, [2]int{s.order[0].Len(), s.order[1].Len()}
	s.mu.Unlock()
	for class, name := range []string{"acts", "reads"} {
		report(name, bytes[class], counts[class])
	}
}
