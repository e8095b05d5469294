package telemetry

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// prefix of every family.
const prefix = "vitrine_"

// Native histograms: buckets grow by a tenth, at most 160 of them, and start anew
// at most once an hour when they are too many.
const (
	nativeFactor  = 1.1
	nativeBuckets = 160
	nativeReset   = time.Hour
)

// metrics holds the families that Instruments lists. It is safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry
	families map[*Instrument]*family

	feeds     map[string][]feed // by exact span name
	wildcards []wildcard        // by prefix

	mu        sync.RWMutex // guards resolved and providers
	resolved  map[string][]feed
	providers map[*Instrument]func(emit func(value float64, labels ...string))
}

// family is one instrument's live half: a vector, or a description of what a
// provider computes at each scrape.
type family struct {
	*Instrument
	desc      *prometheus.Desc
	counter   *prometheus.CounterVec
	gauge     *prometheus.GaugeVec
	histogram *prometheus.HistogramVec

	mu   sync.Mutex // guards seen
	seen []map[string]bool
}

// feed is a Source with its labels in the instrument's order.
type feed struct {
	family *family
	source Source
	labels []labelSource
}

type labelSource struct {
	fixed     string
	attribute string // "name", "suffix.…" and "outcome" are not attributes
	prefix    string // what "suffix.…" is behind
}

type wildcard struct {
	prefix string
	feed   feed
}

// maxResolved bounds the cache of span names.
const maxResolved = 1024

func newMetrics() *metrics {
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		families:  map[*Instrument]*family{},
		feeds:     map[string][]feed{},
		resolved:  map[string][]feed{},
		providers: map[*Instrument]func(func(float64, ...string)){},
	}
	for _, i := range Instruments {
		f := newFamily(i)
		m.families[i] = f
		switch {
		case f.counter != nil:
			m.registry.MustRegister(f.counter)
		case f.gauge != nil:
			m.registry.MustRegister(f.gauge)
		case f.histogram != nil:
			m.registry.MustRegister(f.histogram)
		}
		for _, s := range i.Spans {
			fd := feed{family: f, source: s}
			for _, l := range i.Labels {
				source := labelSource{fixed: s.Set[l.Name], attribute: s.From[l.Name], prefix: strings.TrimSuffix(s.Span, "*")}
				if l.Name == outcomes.Name {
					source.attribute = "outcome"
				}
				fd.labels = append(fd.labels, source)
			}
			if stem, found := strings.CutSuffix(s.Span, "*"); found {
				m.wildcards = append(m.wildcards, wildcard{stem, fd})
			} else {
				m.feeds[s.Span] = append(m.feeds[s.Span], fd)
			}
		}
	}
	m.registry.MustRegister(provided{m})
	return m
}

func newFamily(i *Instrument) *family {
	f := &family{Instrument: i, seen: make([]map[string]bool, len(i.Labels))}
	var names []string
	for n, l := range i.Labels {
		names = append(names, l.Name)
		f.seen[n] = map[string]bool{}
	}
	f.desc = prometheus.NewDesc(prefix+i.Name, i.Help, names, nil)
	switch i.Kind {
	case Counter:
		if i.Elsewhere {
			break
		}
		f.counter = prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + i.Name, Help: i.Help}, names)
		f.start()
	case Histogram:
		buckets := i.Buckets
		if buckets == nil {
			buckets = standardBuckets
		}
		f.histogram = prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + i.Name, Help: i.Help, Buckets: buckets,
			NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets,
			NativeHistogramMinResetDuration: nativeReset,
		}, names)
	case Gauge:
		if i == requestsInflight {
			f.gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + i.Name, Help: i.Help}, names)
		}
	}
	return f
}

// start lets a counter with few possible series begin at 0, so that the first event
// is an increase.
func (f *family) start() {
	const few = 64
	combinations := [][]string{nil}
	for _, l := range f.Labels {
		if len(l.Values) == 0 || len(combinations)*len(l.Values) > few {
			return
		}
		var longer [][]string
		for _, c := range combinations {
			for _, v := range l.Values {
				longer = append(longer, append(slices.Clone(c), v))
			}
		}
		combinations = longer
	}
	for _, c := range combinations {
		f.counter.WithLabelValues(c...)
	}
}

// bounded replaces label values that are beyond the instrument's bounds, in place.
func (f *family) bounded(values []string) []string {
	for n, l := range f.Labels {
		values[n] = strings.ToValidUTF8(values[n], "�")
		switch {
		case len(l.Values) > 0:
			if !slices.Contains(l.Values, values[n]) {
				values[n] = other
			}
		default:
			f.mu.Lock()
			if !f.seen[n][values[n]] {
				if len(f.seen[n]) < l.Max {
					f.seen[n][strings.Clone(values[n])] = true
				} else {
					values[n] = other
				}
			}
			f.mu.Unlock()
		}
	}
	return values
}

// add lets a counter grow. Negative and zero values are passed over.
func (m *metrics) add(i *Instrument, value float64, labels ...string) {
	if f := m.families[i]; value > 0 {
		f.counter.WithLabelValues(f.bounded(labels)...).Add(value)
	}
}

// observe adds a duration, with an exemplar when r is not nil.
func (m *metrics) observe(i *Instrument, d time.Duration, r *record, labels ...string) {
	f := m.families[i]
	observer := f.histogram.WithLabelValues(f.bounded(labels)...)
	if r == nil {
		observer.Observe(d.Seconds())
		return
	}
	observer.(prometheus.ExemplarObserver).ObserveWithExemplar(d.Seconds(),
		prometheus.Labels{"trace_id": r.trace.String(), "span_id": r.ID})
}

// span feeds the families that list this span. exemplar attaches its ids.
func (m *metrics) span(r *record, exemplar bool) {
	for _, fd := range m.resolve(r) {
		if fd.source.Failed && !r.Error {
			continue
		}
		values := make([]string, len(fd.labels))
		for n, l := range fd.labels {
			values[n] = l.value(r)
		}
		if fd.family.counter != nil {
			m.add(fd.family.Instrument, amount(r, fd.source.Value), values...)
			continue
		}
		took, known := spent(r, fd.source.Value)
		switch {
		case !known:
		case exemplar:
			m.observe(fd.family.Instrument, took, r, values...)
		default:
			m.observe(fd.family.Instrument, took, nil, values...)
		}
	}
}

// resolve finds the feeds of a span's name: per instrument the exact one, else the
// first matching wildcard.
func (m *metrics) resolve(r *record) []feed {
	name := r.Name
	if r.Kind == "server" {
		name = "rpc"
	}
	m.mu.RLock()
	feeds, found := m.resolved[name]
	m.mu.RUnlock()
	if found {
		return feeds
	}
	taken := map[*family]bool{}
	for _, fd := range m.feeds[name] {
		if fd.family.Live {
			continue
		}
		feeds = append(feeds, fd)
		taken[fd.family] = true
	}
	for _, w := range m.wildcards {
		if strings.HasPrefix(name, w.prefix) && !taken[w.feed.family] {
			feeds = append(feeds, w.feed)
			taken[w.feed.family] = true
		}
	}
	m.mu.Lock()
	if len(m.resolved) < maxResolved {
		m.resolved[strings.Clone(name)] = feeds
	}
	m.mu.Unlock()
	return feeds
}

func (l labelSource) value(r *record) string {
	switch l.attribute {
	case "":
		return l.fixed
	case "name":
		return r.Name
	case "suffix.head", "suffix.tail":
		head, tail, _ := strings.Cut(strings.TrimPrefix(r.Name, l.prefix), ".")
		if l.attribute == "suffix.head" {
			return head
		}
		return tail
	case "outcome":
		return outcome(r)
	case string(KeyHandler):
		return r.handler
	case "rpc.method":
		return waterfall.ShortName(r.Text("rpc.method"))
	case "vitrine.cni.plugin":
		return r.Text(l.attribute)[strings.LastIndexByte(r.Text(l.attribute), '/')+1:]
	}
	return r.Text(l.attribute)
}

func outcome(r *record) string {
	switch {
	case !r.Error:
		return "ok"
	case r.Text(string(KeyErrorType)) == "cancel":
		return "cancel"
	}
	return "error"
}

// spent is the time that a histogram observes.
func spent(r *record, attribute string) (took time.Duration, known bool) {
	if attribute == "" {
		return r.Duration(), true
	}
	seconds, known := r.Attributes[attribute].(float64)
	return time.Duration(seconds * float64(time.Second)), known
}

func amount(r *record, attribute string) float64 {
	if attribute == "" {
		return 1
	}
	switch v := r.Attributes[attribute].(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

// provided is what a value that is computed at a scrape is to Prometheus.
func (f *family) provided() prometheus.ValueType {
	if f.Kind == Counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// provided collects what providers compute at scrape time.
type provided struct{ *metrics }

// Describe sends the descriptions of all families without a vector.
func (p provided) Describe(out chan<- *prometheus.Desc) {
	for _, f := range p.families {
		if f.counter == nil && f.gauge == nil && f.histogram == nil {
			out <- f.desc
		}
	}
}

// Collect calls the providers. Two values of the same labels, which bounding can
// make of different ones, are added up, or, for a maximum, the larger is kept.
func (p provided) Collect(out chan<- prometheus.Metric) {
	p.mu.RLock()
	providers := make(map[*Instrument]func(func(float64, ...string)), len(p.providers))
	for i, provide := range p.providers {
		providers[i] = provide
	}
	p.mu.RUnlock()
	for i, provide := range providers {
		f := p.families[i]
		type sample struct {
			value  float64
			labels []string
		}
		samples := map[string]sample{}
		provide(func(value float64, labels ...string) {
			if len(labels) != len(i.Labels) {
				return
			}
			labels = f.bounded(slices.Clone(labels))
			key := strings.Join(labels, "\xff")
			if old, found := samples[key]; found && strings.HasSuffix(i.Name, "_max") {
				value = max(value, old.value)
			} else {
				value += old.value
			}
			samples[key] = sample{value, labels}
		})
		for _, s := range samples {
			metric, err := prometheus.NewConstMetric(f.desc, f.provided(), s.value, s.labels...)
			if err != nil { // only labels that are no UTF-8
				continue
			}
			out <- metric
		}
	}
}

// provide registers who computes a gauge at each scrape, in place of the one before.
func (m *metrics) provide(i *Instrument, f func(emit func(value float64, labels ...string))) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.providers[i] = f
}
