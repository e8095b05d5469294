package telemetry

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start sets telemetry up without the environment's opinion; the log is returned.
func start(t *testing.T, c Config) (*Telemetry, *lockedBuffer) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") && !setByTest(t, name) {
			t.Setenv(name, "")
		}
	}
	log := &lockedBuffer{}
	if c.LogOutput == nil {
		c.LogOutput = log
	}
	tel, err := Setup(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = tel.Shutdown(ctx) // tests with a dead collector expect an error here
	})
	return tel, log
}

var testEnv sync.Map

// env sets a variable that start leaves alone.
func env(t *testing.T, name, value string) {
	t.Setenv(name, value)
	testEnv.Store(t.Name()+" "+name, true)
}

func setByTest(t *testing.T, name string) bool {
	_, found := testEnv.Load(t.Name() + " " + name)
	return found
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// collector is a real OTLP collector, as far as it keeps what it is sent.
type collector struct {
	collectortrace.UnimplementedTraceServiceServer
	mu      sync.Mutex
	spans   []*tracepb.ResourceSpans
	headers []string
	logs    logCollector
	metrics metricCollector
	// hold delays each answer until it is closed; nil: none.
	hold chan struct{}
}

func (c *collector) Export(ctx context.Context, r *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	if c.hold != nil {
		select {
		case <-c.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, r.GetResourceSpans()...)
	c.headers = append(c.headers, md.Get("x-tenant")...)
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

// names are those of all spans that arrived, with the service that reported them.
func (c *collector) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, rs := range c.spans {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				names = append(names, service+" "+s.GetName())
			}
		}
	}
	return names
}

// serveGRPC runs the collector on a loopback port until the test ends.
func (c *collector) serveGRPC(t *testing.T, options ...grpc.ServerOption) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	collectortrace.RegisterTraceServiceServer(server, c)
	collectorlogs.RegisterLogsServiceServer(server, &c.logs)
	collectormetrics.RegisterMetricsServiceServer(server, &c.metrics)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); done.Wait() })
	return listener.Addr().String()
}

// scrape returns /metrics or another page as text.
func scrape(t *testing.T, tel *Telemetry, path, accept string) string {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header.Set("Accept", accept)
	answer := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// sample returns the value of one series of /metrics, "" when it is absent.
func sample(t *testing.T, tel *Telemetry, series string) string {
	t.Helper()
	for line := range strings.Lines(scrape(t, tel, "/metrics", "text/plain")) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen within a minute", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
