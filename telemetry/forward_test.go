package telemetry

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// logCollector keeps what it is sent.
type logCollector struct {
	collectorlogs.UnimplementedLogsServiceServer
	mu      sync.Mutex
	got     []*logspb.ResourceLogs
	headers []string
}

func (c *logCollector) Export(ctx context.Context, r *collectorlogs.ExportLogsServiceRequest) (*collectorlogs.ExportLogsServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, r.GetResourceLogs()...)
	c.headers = append(c.headers, md.Get("x-tenant")...)
	return &collectorlogs.ExportLogsServiceResponse{}, nil
}

func (c *logCollector) check(t *testing.T, tenant string) {
	t.Helper()
	eventually(t, "the export", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.got) > 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := map[string]string{}
	for _, a := range c.got[0].GetResource().GetAttributes() {
		keys[a.GetKey()] = a.GetValue().GetStringValue()
	}
	if keys["service.name"] != "vitrine-monitor" || keys["k8s.node.name"] != "node-7" || len(c.got[0].GetScopeLogs()[0].GetLogRecords()) != 1 || len(c.headers) != 1 || c.headers[0] != tenant {
		t.Errorf("arrived %v with headers %v", c.got, c.headers)
	}
}

func outputLine() *collectorlogs.ExportLogsServiceRequest {
	return &collectorlogs.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "vitrine-monitor")}},
		ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{{Attributes: []*commonpb.KeyValue{text("log.iostream", "stdout")},
			Body: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: "hello"}}}}}},
	}}}
}

func TestLogsOfMonitorsReachAGRPCCollectorCompressed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &logCollector{}
	server := grpc.NewServer()
	collectorlogs.RegisterLogsServiceServer(server, c)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); done.Wait() })

	env(t, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", listener.Addr().String())
	env(t, "OTEL_EXPORTER_OTLP_INSECURE", "true")
	env(t, "OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue%20team,broken")
	env(t, "OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	tel, _ := start(t, Config{NodeName: "node-7"})
	if tel.queue != nil {
		t.Error("an endpoint for logs switched the export of traces on")
	}
	post(t, client(t, receive(t, tel)), "logs", marshal(t, outputLine()))
	c.check(t, "blue team")
	eventually(t, "the count", func() bool { return sample(t, tel, `vitrine_telemetry_exported_total{signal="logs"}`) == "1" })
}

func TestLogsOfMonitorsReachAnHTTPCollector(t *testing.T) {
	c := &logCollector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		raw, _ := io.ReadAll(body)
		var m collectorlogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(raw, &m); err != nil || r.URL.Path != "/v1/logs" {
			http.Error(w, "wrong request", http.StatusBadRequest)
			return
		}
		_, _ = c.Export(metadata.NewIncomingContext(r.Context(), metadata.Pairs("x-tenant", r.Header.Get("X-Tenant"))), &m)
	}))
	t.Cleanup(server.Close)
	env(t, "OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	tel, _ := start(t, Config{Endpoint: server.URL, Protocol: protocolHTTP, Headers: map[string]string{"x-tenant": "green"}, NodeName: "node-7"})
	post(t, client(t, receive(t, tel)), "logs", marshal(t, outputLine()))
	c.check(t, "green")
}

func TestReportsThatNoCollectorTakesAreCounted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // nobody listens there now
	tel, _ := start(t, Config{Endpoint: "http://" + address, Protocol: protocolHTTP})
	connection := client(t, receive(t, tel))
	for range 3 {
		post(t, connection, "logs", marshal(t, outputLine()))
	}
	eventually(t, "three drops", func() bool {
		return sample(t, tel, `vitrine_telemetry_dropped_total{reason="export_failed",signal="logs"}`) == "3"
	})
}

func TestEndpointOfASignalFollowsTheSpecification(t *testing.T) {
	for name, c := range map[string]struct {
		config  Config
		env     map[string]string
		want    string
		enabled bool
	}{
		"nothing":            {},
		"base, http":         {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "https://c:4318/v1/logs", enabled: true},
		"own, http":          {env: map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://c:4318/x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "https://c:4318/x", enabled: true},
		"base, grpc":         {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, want: "c:4317", enabled: true},
		"file, traces' path": {config: Config{Endpoint: "http://c:4318/v1/traces", Protocol: protocolHTTP}, want: "http://c:4318/v1/logs", enabled: true},
		"none wanted":        {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_LOGS_EXPORTER": "none"}},
		"SDK disabled":       {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range c.env {
				t.Setenv(key, value)
			}
			s, enabled := forwardSettings(c.config, "logs")
			if enabled != c.enabled || enabled && s.Endpoint != c.want {
				t.Errorf("%q, %v; want %q, %v", s.Endpoint, enabled, c.want, c.enabled)
			}
		})
	}
}
