package telemetry

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// metricReader sends the families of /metrics to the collector at an interval, under
// the same names: what dashboards ask for is there by either way.
type metricReader struct {
	read    func() []*metricspb.Metric
	to      *exporter
	self    *resourcepb.Resource
	version string
	stop    chan struct{}
	done    sync.WaitGroup
	closed  sync.Once
}

func startMetricReader(t *Telemetry, s exportSettings, version string) *metricReader {
	begin := time.Now()
	r := &metricReader{to: t.points, self: protoResource(t.resource), version: version, stop: make(chan struct{}),
		read: func() []*metricspb.Metric {
			t.ended.settle()
			families, _ := t.metrics.registry.Gather() // what could be gathered is sent
			return convertFamilies(families, begin, time.Now(), s.exponential)
		}}
	r.done.Go(func() {
		ticker := time.NewTicker(s.interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.send()
			case <-r.stop:
				return
			}
		}
	})
	return r
}

func (r *metricReader) send() {
	metrics := r.read()
	m := &metricspb.ResourceMetrics{Resource: r.self, SchemaUrl: semconv.SchemaURL,
		ScopeMetrics: []*metricspb.ScopeMetrics{{Scope: instrumentation(r.version), Metrics: metrics}}}
	r.to.put(item{what: m, count: len(metrics), size: proto.Size(m)})
}

// Close sends the last values. A nil reader is closed.
func (r *metricReader) Close(context.Context) {
	if r == nil {
		return
	}
	r.closed.Do(func() {
		close(r.stop)
		r.done.Wait()
		r.send()
	})
}

// convertFamilies translates gathered families: cumulative since begin, as they are
// at now. Counters and histograms that say when they were created begin there.
func convertFamilies(families []*dto.MetricFamily, begin, now time.Time, exponential bool) []*metricspb.Metric {
	metrics := make([]*metricspb.Metric, 0, len(families))
	for _, f := range families {
		m := &metricspb.Metric{Name: f.GetName(), Description: f.GetHelp(), Unit: unitOf(f.GetName())}
		c := conversion{begin: uint64(begin.UnixNano()), now: uint64(now.UnixNano())}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			m.Data = &metricspb.Metric_Sum{Sum: &metricspb.Sum{IsMonotonic: true, AggregationTemporality: cumulative, DataPoints: c.numbers(f)}}
		case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
			m.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: c.numbers(f)}}
		case dto.MetricType_HISTOGRAM:
			if exponential && f.GetMetric()[0].GetHistogram().Schema != nil {
				m.Data = &metricspb.Metric_ExponentialHistogram{ExponentialHistogram: &metricspb.ExponentialHistogram{AggregationTemporality: cumulative, DataPoints: c.exponential(f)}}
			} else {
				m.Data = &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{AggregationTemporality: cumulative, DataPoints: c.histograms(f)}}
			}
		case dto.MetricType_SUMMARY:
			m.Data = &metricspb.Metric_Summary{Summary: &metricspb.Summary{DataPoints: c.summaries(f)}}
		default:
			continue
		}
		metrics = append(metrics, m)
	}
	return metrics
}

const cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE

// unitOf is the unit in a family's name, in UCUM.
func unitOf(name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "_total"), "_max")
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "By"
	}
	return ""
}

// conversion has the times of one reading, in nanoseconds since 1970.
type conversion struct{ begin, now uint64 }

func (c conversion) numbers(f *dto.MetricFamily) (points []*metricspb.NumberDataPoint) {
	for _, m := range f.GetMetric() {
		p := &metricspb.NumberDataPoint{Attributes: labelsOf(m), TimeUnixNano: c.now}
		value := m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		if counter := m.GetCounter(); counter != nil {
			value, p.StartTimeUnixNano = counter.GetValue(), c.start(counter.GetCreatedTimestamp().AsTime())
		}
		p.Value = &metricspb.NumberDataPoint_AsDouble{AsDouble: value}
		points = append(points, p)
	}
	return points
}

// start is when something was created, or when the process was, if that is not told.
func (c conversion) start(created time.Time) uint64 {
	if created.Unix() <= 0 {
		return c.begin
	}
	return uint64(created.UnixNano())
}

func (c conversion) histograms(f *dto.MetricFamily) (points []*metricspb.HistogramDataPoint) {
	for _, m := range f.GetMetric() {
		h := m.GetHistogram()
		p := &metricspb.HistogramDataPoint{Attributes: labelsOf(m), TimeUnixNano: c.now, StartTimeUnixNano: c.start(h.GetCreatedTimestamp().AsTime()),
			Count: h.GetSampleCount(), Sum: proto.Float64(h.GetSampleSum())}
		below := uint64(0) // Prometheus' buckets are cumulative, OTLP's are not
		for _, b := range h.GetBucket() {
			p.Exemplars = appendExemplar(p.Exemplars, b.GetExemplar())
			if b.GetUpperBound() > maxBound {
				continue
			}
			p.ExplicitBounds = append(p.ExplicitBounds, b.GetUpperBound())
			p.BucketCounts = append(p.BucketCounts, b.GetCumulativeCount()-below)
			below = b.GetCumulativeCount()
		}
		p.BucketCounts = append(p.BucketCounts, p.Count-below)
		points = append(points, p)
	}
	return points
}

// maxBound is larger than every bucket's bound but +Inf.
const maxBound = 1e300

// exponential translates native histograms. The schema is the scale; Prometheus
// numbers a bucket by its upper bound and OTLP by its lower one.
func (c conversion) exponential(f *dto.MetricFamily) (points []*metricspb.ExponentialHistogramDataPoint) {
	for _, m := range f.GetMetric() {
		h := m.GetHistogram()
		p := &metricspb.ExponentialHistogramDataPoint{Attributes: labelsOf(m), TimeUnixNano: c.now, StartTimeUnixNano: c.start(h.GetCreatedTimestamp().AsTime()),
			Count: h.GetSampleCount(), Sum: proto.Float64(h.GetSampleSum()), Scale: h.GetSchema(),
			ZeroCount: h.GetZeroCount(), ZeroThreshold: h.GetZeroThreshold(),
			Positive: bucketsOf(h.GetPositiveSpan(), h.GetPositiveDelta()), Negative: bucketsOf(h.GetNegativeSpan(), h.GetNegativeDelta())}
		for _, e := range h.GetExemplars() {
			p.Exemplars = appendExemplar(p.Exemplars, e)
		}
		points = append(points, p)
	}
	return points
}

// bucketsOf lays spans of delta-coded counts out flat. The gaps are bounded because
// our histograms have at most nativeBuckets buckets over durations.
func bucketsOf(spans []*dto.BucketSpan, deltas []int64) *metricspb.ExponentialHistogramDataPoint_Buckets {
	b := &metricspb.ExponentialHistogramDataPoint_Buckets{}
	count, next := int64(0), 0
	for n, s := range spans {
		if n == 0 {
			b.Offset = s.GetOffset() - 1
		} else {
			b.BucketCounts = append(b.BucketCounts, make([]uint64, max(0, s.GetOffset()))...)
		}
		for range s.GetLength() {
			if next >= len(deltas) {
				return b
			}
			count += deltas[next]
			next++
			b.BucketCounts = append(b.BucketCounts, uint64(max(0, count)))
		}
	}
	return b
}

func (c conversion) summaries(f *dto.MetricFamily) (points []*metricspb.SummaryDataPoint) {
	for _, m := range f.GetMetric() {
		s := m.GetSummary()
		p := &metricspb.SummaryDataPoint{Attributes: labelsOf(m), TimeUnixNano: c.now, StartTimeUnixNano: c.start(s.GetCreatedTimestamp().AsTime()),
			Count: s.GetSampleCount(), Sum: s.GetSampleSum()}
		for _, q := range s.GetQuantile() {
			p.QuantileValues = append(p.QuantileValues, &metricspb.SummaryDataPoint_ValueAtQuantile{Quantile: q.GetQuantile(), Value: q.GetValue()})
		}
		points = append(points, p)
	}
	return points
}

func labelsOf(m *dto.Metric) (attrs []*commonpb.KeyValue) {
	for _, l := range m.GetLabel() {
		attrs = append(attrs, protoAttribute(l.GetName(), l.GetValue()))
	}
	return attrs
}

func appendExemplar(list []*metricspb.Exemplar, e *dto.Exemplar) []*metricspb.Exemplar {
	if e == nil {
		return list
	}
	out := &metricspb.Exemplar{Value: &metricspb.Exemplar_AsDouble{AsDouble: e.GetValue()}, TimeUnixNano: uint64(e.GetTimestamp().AsTime().UnixNano())}
	for _, l := range e.GetLabel() {
		switch raw, err := hex.DecodeString(l.GetValue()); {
		case err != nil:
		case l.GetName() == "trace_id":
			out.TraceId = raw
		case l.GetName() == "span_id":
			out.SpanId = raw
		}
	}
	return append(list, out)
}
