package telemetry

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
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
	eventually(t, "the export", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Contains(fmt.Sprint(c.got), "vitrine-monitor")
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := map[string]string{}
	var from *logspb.ResourceLogs
	for _, rl := range c.got { // the daemon's own log arrives as well
		for _, a := range rl.GetResource().GetAttributes() {
			if a.GetValue().GetStringValue() == "vitrine-monitor" {
				from = rl
			}
		}
	}
	for _, a := range from.GetResource().GetAttributes() {
		keys[a.GetKey()] = a.GetValue().GetStringValue()
	}
	if keys["service.name"] != "vitrine-monitor" || keys["k8s.node.name"] != "node-7" || len(from.GetScopeLogs()[0].GetLogRecords()) != 1 || c.headers[0] != tenant {
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
	if tel.spans != nil {
		t.Error("an endpoint for logs switched the export of traces on")
	}
	post(t, client(t, receive(t, tel)), "logs", marshal(t, outputLine()))
	c.check(t, "blue team")
	eventually(t, "the count", func() bool { return sample(t, tel, `vitrine_telemetry_exported_total{signal="logs"}`) != "0" })
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

func TestTheDaemonsLogReachesTheCollectorWithinItsTrace(t *testing.T) {
	c := &collector{}
	tel, log := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), ExportDelay: time.Millisecond})
	ctx, span := Start(tel.Context(t.Context()), "lifecycle.recover")
	tel.Logger().With("sandbox", pod.ID("abc")).WithGroup("cause").WarnContext(ctx, "coped", "code", 7, slog.Group("deep", "x", true))
	span.End(nil)
	tel.Logger().Info("by name", "trace_id", strings.Repeat("ab", 16))
	tel.Logger().Debug("not of this level")
	arrived := func() (records []*logspb.LogRecord, service string) {
		c.logs.mu.Lock()
		defer c.logs.mu.Unlock()
		for _, rl := range c.logs.got {
			for _, a := range rl.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					service = a.GetValue().GetStringValue()
				}
			}
			for _, sl := range rl.GetScopeLogs() {
				records = append(records, sl.GetLogRecords()...)
			}
		}
		return records, service
	}
	eventually(t, "two records", func() bool { records, _ := arrived(); return len(records) >= 2 })
	records, service := arrived()
	if len(records) != 2 || service != "vitrined" {
		t.Fatalf("of %s: %v", service, records)
	}
	attrs := map[string]string{}
	for _, a := range records[0].GetAttributes() {
		attrs[a.GetKey()] = fmt.Sprint(a.GetValue().GetValue())
	}
	sc := trace.SpanContextFromContext(ctx)
	if records[0].GetBody().GetStringValue() != "coped" || records[0].GetSeverityText() != "WARN" || hex.EncodeToString(records[0].GetTraceId()) != sc.TraceID().String() ||
		hex.EncodeToString(records[0].GetSpanId()) != sc.SpanID().String() || attrs[string(KeySandboxID)] != "&{abc}" || attrs["cause.code"] != "&{7}" || attrs["cause.deep.x"] != "&{true}" {
		t.Errorf("record %v, attributes %v", records[0], attrs)
	}
	if hex.EncodeToString(records[1].GetTraceId()) != strings.Repeat("ab", 16) || len(records[1].GetAttributes()) != 0 {
		t.Errorf("record %v", records[1])
	}
	if !strings.Contains(log.String(), "coped") {
		t.Errorf("not in the daemon's own log: %s", log)
	}
}
