package telemetry

import (
	"context"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// metricCollector keeps what it is sent.
type metricCollector struct {
	collectormetrics.UnimplementedMetricsServiceServer
	mu  sync.Mutex
	got []*metricspb.ResourceMetrics
}

func (c *metricCollector) Export(_ context.Context, r *collectormetrics.ExportMetricsServiceRequest) (*collectormetrics.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, r.GetResourceMetrics()...)
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

// latest returns the last report of a family, nil without one.
func (c *metricCollector) latest(name string) (found *metricspb.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rm := range c.got {
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				if m.GetName() == name {
					found = m
				}
			}
		}
	}
	return found
}

func TestTheDaemonsFamiliesReachTheCollectorUnderTheSameNames(t *testing.T) {
	for _, exponential := range []bool{false, true} {
		t.Run(map[bool]string{false: "explicit", true: "exponential"}[exponential], func(t *testing.T) {
			if exponential {
				env(t, "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram")
			}
			c := &collector{}
			tel, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), MetricInterval: 20 * time.Millisecond, ExportDelay: time.Millisecond})
			steps(tel)
			tel.ended.settle()
			eventually(t, "metrics", func() bool {
				spans := c.metrics.latest("vitrine_telemetry_spans_total").GetSum()
				return spans.GetIsMonotonic() && sum(spans.GetDataPoints()) == 2
			})
			const family = "vitrine_recovery_duration_seconds"
			m := c.metrics.latest(family)
			if m.GetUnit() != "s" || m.GetDescription() == "" {
				t.Errorf("unit %q, description %q", m.GetUnit(), m.GetDescription())
			}
			if !exponential {
				p := m.GetHistogram().GetDataPoints()[0]
				if len(p.GetBucketCounts()) != len(p.GetExplicitBounds())+1 || total(p.GetBucketCounts()) != 1 || p.GetCount() != 1 || len(p.GetExemplars()) != 1 || len(p.GetExemplars()[0].GetTraceId()) != 16 {
					t.Errorf("histogram point %v", p)
				}
				return
			}
			p := m.GetExponentialHistogram().GetDataPoints()[0]
			if total(p.GetPositive().GetBucketCounts())+p.GetZeroCount() != 1 || p.GetScale() < 1 {
				t.Errorf("exponential point %v", p)
			}
		})
	}
}

func sum(points []*metricspb.NumberDataPoint) (s float64) {
	for _, p := range points {
		s += p.GetAsDouble()
	}
	return s
}

func total(counts []uint64) (s uint64) {
	for _, n := range counts {
		s += n
	}
	return s
}

// A value lies in the bucket that it has in OTLP: (base^index, base^(index+1)] with
// base 2^(2^-scale).
func TestExponentialBucketsKeepTheirBounds(t *testing.T) {
	tel, _ := start(t, Config{})
	for _, d := range []time.Duration{time.Second, 1500 * time.Millisecond, 3 * time.Second, 100 * time.Second} {
		tel.metrics.observe(recoveryDuration, d, nil, "ok")
	}
	families, err := tel.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range convertFamilies(families, time.Now(), time.Now(), true) {
		if m.GetName() != "vitrine_recovery_duration_seconds" {
			continue
		}
		p := m.GetExponentialHistogram().GetDataPoints()[0]
		got := map[int]uint64{}
		for n, count := range p.GetPositive().GetBucketCounts() {
			if count > 0 {
				got[int(p.GetPositive().GetOffset())+n] = count
			}
		}
		// Scale 3: base 2^(1/8); 1 = base^0, 1.5 = base^4.68, 3 = base^12.68, 100 = base^53.15.
		want := map[int]uint64{-1: 1, 4: 1, 12: 1, 53: 1}
		if p.GetScale() != 3 || len(got) != len(want) {
			t.Fatalf("scale %d, buckets %v, want %v", p.GetScale(), got, want)
		}
		for index := range want {
			if got[index] != 1 {
				t.Errorf("buckets %v, want %v", got, want)
			}
		}
		return
	}
	t.Error("no such family")
}
