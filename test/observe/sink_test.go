package observe

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// sink is where the Collector sends everything that it received.
type sink struct {
	*httptest.Server
	mu      sync.Mutex // guards the rest
	spans   map[string]arrived
	logs    []*logspb.LogRecord
	metrics map[string]*metricspb.Metric
	raw     [][]byte
	bad     []string
}

// arrived is a span with the service that reported it.
type arrived struct {
	*tracepb.Span
	service string
}

func startSink(t testing.TB) *sink {
	s := &sink{spans: map[string]arrived{}, metrics: map[string]*metricspb.Metric{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP takes OTLP over HTTP from the Collector.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		body = unzip
	}
	raw, err := io.ReadAll(body)
	if err != nil { // the Collector was killed while it sent
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, raw)
	if err := s.take(r.URL.Path, raw); err != nil {
		s.bad = append(s.bad, fmt.Sprintf("%s: %v", r.URL.Path, err))
	}
}

func (s *sink) take(path string, raw []byte) error {
	switch path {
	case "/v1/traces":
		var m collectortrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &m); err != nil {
			return err
		}
		for _, rs := range m.GetResourceSpans() {
			service := text(rs.GetResource().GetAttributes(), "service.name")
			for _, ss := range rs.GetScopeSpans() {
				for _, span := range ss.GetSpans() {
					s.spans[hex.EncodeToString(span.GetSpanId())] = arrived{span, service}
				}
			}
		}
	case "/v1/logs":
		var m collectorlogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(raw, &m); err != nil {
			return err
		}
		for _, rl := range m.GetResourceLogs() {
			for _, sl := range rl.GetScopeLogs() {
				s.logs = append(s.logs, sl.GetLogRecords()...)
			}
		}
	case "/v1/metrics":
		var m collectormetrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(raw, &m); err != nil {
			return err
		}
		for _, rm := range m.GetResourceMetrics() {
			for _, sm := range rm.GetScopeMetrics() {
				for _, metric := range sm.GetMetrics() {
					s.metrics[metric.GetName()] = metric
				}
			}
		}
	default:
		return fmt.Errorf("nobody serves it")
	}
	return nil
}

// trace returns the spans of a trace by id.
func (s *sink) trace(id string) map[string]arrived {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]arrived{}
	for span, a := range s.spans {
		if hex.EncodeToString(a.GetTraceId()) == id {
			found[span] = a
		}
	}
	return found
}

// bodies are the messages of the log records that belong to a trace.
func (s *sink) bodies(trace string) (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.logs {
		if hex.EncodeToString(r.GetTraceId()) == trace {
			list = append(list, r.GetBody().GetStringValue())
		}
	}
	return list
}

// lines are all log records' messages.
func (s *sink) lines() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all strings.Builder
	for _, r := range s.logs {
		fmt.Fprintln(&all, r.GetBody().GetStringValue(), r.GetAttributes())
	}
	return all.String()
}

func (s *sink) metric(name string) *metricspb.Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metrics[name]
}

func text(attrs []*commonpb.KeyValue, key string) string {
	for _, a := range attrs {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
