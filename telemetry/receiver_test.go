package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

// received is one span as a monitor reports it; trace and span are filled up to ids.
func received(trace, span string, parent []byte, attrs ...*commonpb.KeyValue) *tracepb.ResourceSpans {
	now := uint64(time.Now().UnixNano())
	return &tracepb.ResourceSpans{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "vitrine-monitor"), text("container.id", strings.Repeat("c", 64))}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{
			TraceId: []byte((trace + strings.Repeat("\x01", 16))[:16]), SpanId: []byte((span + strings.Repeat("\x01", 8))[:8]), ParentSpanId: parent,
			Name: "monitor.create", StartTimeUnixNano: now - 1e6, EndTimeUnixNano: now, Attributes: attrs,
		}}}},
	}
}

// client speaks HTTP to a unix socket.
func client(t *testing.T, path string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(t *testing.T, c *http.Client, signal string, body []byte, headers ...string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://vitrine/v1/"+signal, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, raw
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func receive(t *testing.T, tel *Telemetry) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "otlp.sock")
	r, err := tel.Receive(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return path
}

func TestSpansOfMonitorsJoinTheirTraceMetricsAndExport(t *testing.T) {
	c := &collector{}
	tel, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), NodeName: "node-7"})
	path := receive(t, tel)

	ctx, span := Start(tel.Context(t.Context()), "lifecycle.create_container", KeyNamespace.String("shop"), KeyPodName.String("web"))
	sc := span.span.SpanContext()
	id, parent := sc.TraceID(), sc.SpanID()
	report := received(string(id[:]), "m", parent[:])
	code, answer := post(t, client(t, path), "traces", marshal(t, &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{report}}))
	if code != http.StatusOK || len(answer) != 0 {
		t.Fatalf("answer %d %q", code, answer)
	}
	span.End(nil)
	_ = ctx

	found := tel.Find("shop/web", false, 1)
	if len(found) != 1 || len(found[0].Spans) != 2 || found[0].Spans[0].Service == found[0].Spans[1].Service {
		t.Fatalf("found %+v", found)
	}
	if same := tel.Find(strings.Repeat("c", 12), false, 1); len(same) != 1 || same[0].ID != id.String() {
		t.Errorf("the trace is not found by the beginning of the container's id: %v", same)
	}
	if got := sample(t, tel, `vitrine_container_phase_duration_seconds_count{handler="",outcome="ok",phase="monitor.create"}`); got != "1" {
		t.Errorf("phase monitor.create counted %q times", got)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sorted(c.names()); !slices.Equal(got, []string{"vitrine-monitor monitor.create", "vitrined lifecycle.create_container"}) {
		t.Errorf("exported %v", got)
	}
	for _, rs := range c.spans {
		node := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "k8s.node.name" {
				node = a.GetValue().GetStringValue()
			}
		}
		if node != "node-7" {
			t.Errorf("a resource without the node's name was exported: %v", rs.GetResource())
		}
	}
}

func TestLateSpansOfAnUnknownTraceAreKept(t *testing.T) {
	tel, _ := start(t, Config{})
	path := receive(t, tel)
	parent := []byte("12345678")
	body := marshal(t, &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{received("late", "m", parent, text("k8s.pod.uid", "uid-1"))}})
	for range 2 { // the second time because an answer was lost
		if code, _ := post(t, client(t, path), "traces", body); code != http.StatusOK {
			t.Fatalf("answer %d", code)
		}
	}
	if got := sample(t, tel, `vitrine_container_phase_duration_seconds_count{handler="",outcome="ok",phase="monitor.create"}`); got != "1" {
		t.Errorf("a span that was reported twice counts %s times", got)
	}
	if found := tel.Find("uid-1", false, 1); len(found) != 1 || len(found[0].Spans) != 1 {
		t.Errorf("found %+v", found)
	}
}

func TestSpansOfAnUnsampledTraceStayOnTheNode(t *testing.T) {
	c := &collector{}
	tel, _ := start(t, Config{Endpoint: "http://" + c.serveGRPC(t), Sampler: "always_off"})
	_, span := Start(tel.Context(t.Context()), "lifecycle.create_container", KeyPodUID.String("uid-2"))
	sc := span.span.SpanContext()
	id, parent := sc.TraceID(), sc.SpanID()
	body := marshal(t, &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{received(string(id[:]), "m", parent[:])}})
	post(t, client(t, receive(t, tel)), "traces", body) // before any span of the trace has ended
	span.End(nil)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := tel.Find("uid-2", false, 1); len(found) != 1 || len(found[0].Spans) != 2 || len(c.names()) != 0 {
		t.Errorf("on the node %v, exported %v", found, c.names())
	}
}

func TestReceiverRefusesWhatIsNoReport(t *testing.T) {
	tel, _ := start(t, Config{})
	path := receive(t, tel)
	c := client(t, path)
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	_, _ = zip.Write(make([]byte, maxReport+1))
	zip.Close()
	for name, want := range map[string]struct {
		code    int
		body    []byte
		headers []string
	}{
		"no protobuf":  {http.StatusBadRequest, []byte("\xff\xff\xff"), nil},
		"json":         {http.StatusUnsupportedMediaType, []byte("{}"), []string{"Content-Type", "application/json"}},
		"too large":    {http.StatusRequestEntityTooLarge, make([]byte, maxReport+1), nil},
		"gzip bomb":    {http.StatusRequestEntityTooLarge, bomb.Bytes(), []string{"Content-Encoding", "gzip"}},
		"no gzip":      {http.StatusBadRequest, []byte("plain"), []string{"Content-Encoding", "gzip"}},
		"new encoding": {http.StatusBadRequest, nil, []string{"Content-Encoding", "zstd"}},
	} {
		if code, _ := post(t, c, "traces", want.body, want.headers...); code != want.code {
			t.Errorf("%s: %d, want %d", name, code, want.code)
		}
	}
	broken := received("t", "s", nil)
	broken.ScopeSpans[0].Spans[0].SpanId = []byte("short")
	_, answer := post(t, c, "traces", marshal(t, &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{broken}}))
	var m collectortrace.ExportTraceServiceResponse
	if err := proto.Unmarshal(answer, &m); err != nil || m.GetPartialSuccess().GetRejectedSpans() != 1 {
		t.Errorf("a span without id: %v, %v", &m, err)
	}
	if got := sample(t, tel, `vitrine_telemetry_dropped_total{reason="malformed",signal="traces"}`); got != "1" {
		t.Errorf("malformed = %s", got)
	}
}

func TestReceiverSocketIsForItsOwnerOnly(t *testing.T) {
	tel, _ := start(t, Config{})
	deep := t.TempDir() + strings.Repeat("/a-long-directory-name", 6)
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(deep, "otlp.sock") // longer than a socket's address may be
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err) // something stale
	}
	r, err := tel.Receive(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("socket: %v, %v", info, err)
	}
	if entries, _ := os.ReadDir(deep); len(entries) != 1 {
		t.Errorf("left beside the socket: %v", entries)
	}
}

func TestLogCountsOfMonitorsAndExitRecordsAreCountedOnce(t *testing.T) {
	tel, _ := start(t, Config{})
	path := receive(t, tel)
	id := pod.NewID()
	point := func(stream string, n int64) *metricspb.NumberDataPoint {
		return &metricspb.NumberDataPoint{Attributes: []*commonpb.KeyValue{text("container.id", string(id)), text("log.iostream", stream)}, Value: &metricspb.NumberDataPoint_AsInt{AsInt: n}}
	}
	report := func(points ...*metricspb.NumberDataPoint) {
		t.Helper()
		m := &collectormetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{
			{Name: metricLogBytes, Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{DataPoints: points}}}}}}}}}
		if code, _ := post(t, client(t, path), "metrics", marshal(t, m)); code != http.StatusOK {
			t.Fatalf("answer %d", code)
		}
	}
	report(point("stdout", 100), point("stderr", 7))
	report(point("stdout", 150), point("stderr", 7))
	tel.Observe(pod.Event{Kind: pod.ContainerExited, Container: &pod.Container{ID: id, Exit: &pod.Exit{Source: "monitor", LogBytes: 200, LogLines: 3}}})
	for series, want := range map[string]string{
		`vitrine_log_bytes_total{stream="stdout"}`: "150", `vitrine_log_bytes_total{stream="stderr"}`: "7",
		`vitrine_log_bytes_total{stream="mixed"}`: "43", `vitrine_log_records_total{stream="mixed"}`: "3",
	} {
		if got := sample(t, tel, series); got != want {
			t.Errorf("%s = %s, want %s", series, got, want)
		}
	}
	tel.Observe(pod.Event{Kind: pod.ContainerRemoved, Container: &pod.Container{ID: id}})
	if len(tel.account.seen) != 0 {
		t.Error("a removed container is still accounted for")
	}
}

func TestLogsOfMonitorsReachTheDaemonsLogAndContainerOutputDoesNot(t *testing.T) {
	tel, log := start(t, Config{})
	path := receive(t, tel)
	body := func(s string) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
	}
	m := &collectorlogs.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{
		{Body: body("log disk is full"), SeverityNumber: logspb.SeverityNumber_SEVERITY_NUMBER_WARN},
		{Body: body("secret of an application"), Attributes: []*commonpb.KeyValue{text("log.iostream", "stdout")}},
	}}}}}}
	if code, _ := post(t, client(t, path), "logs", marshal(t, m)); code != http.StatusOK {
		t.Fatalf("answer %d", code)
	}
	if !strings.Contains(log.String(), `level=WARN msg="log disk is full"`) || strings.Contains(log.String(), "secret") {
		t.Errorf("log: %s", log)
	}
}

func FuzzReceiver(f *testing.F) {
	span, _ := proto.Marshal(&collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{received("t", "s", nil, text("a", "b"))}})
	f.Add("traces", span)
	f.Add("logs", []byte{})
	f.Add("metrics", []byte("\x0a\x00"))
	tel, err := Setup(context.Background(), Config{LogOutput: io.Discard, TraceBytes: 1 << 16})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { tel.Shutdown(context.Background()) })
	// Property: whatever a monitor sends, the daemon answers, keeps its bound, and can draw what it kept.
	f.Fuzz(func(t *testing.T, signal string, body []byte) {
		request, err := http.NewRequest(http.MethodPost, "/v1/x", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Path = "/v1/" + signal
		request.Header.Set("Content-Type", "application/x-protobuf")
		answer := &discard{header: http.Header{}}
		tel.ReceiverHandler().ServeHTTP(answer, request)
		tel.store.each(func(class string, bytes, traces int) {
			if bytes > 1<<16 && traces > 1 {
				t.Errorf("%s: %d bytes in %d traces", class, bytes, traces)
			}
		})
		for _, found := range tel.Find("", true, 10) {
			if _, err := jsonOf(found); err != nil {
				t.Errorf("trace cannot be told: %v", err)
			}
		}
	})
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func TestReceiverHangsUpOnStrangers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs CAP_SETUID to be a stranger")
	}
	tel, _ := start(t, Config{})
	path := receive(t, tel)
	// The file's mode keeps strangers out already; here only the receiver itself shall.
	for _, c := range []struct {
		path string
		mode os.FileMode
	}{{path, 0o666}, {filepath.Dir(path), 0o755}, {filepath.Dir(filepath.Dir(path)), 0o755}} {
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, uid := range []uintptr{0, 65534} {
		answer, err := askAs(uid, path)
		if welcome := strings.HasPrefix(answer, "HTTP/1.0 405"); err != nil || welcome != (uid == 0) {
			t.Errorf("uid %d is answered %q, %v", uid, answer, err)
		}
	}
}

// askAs sends a request on a thread with another user id, and reads the answer. The
// thread ends with its goroutine.
func askAs(uid uintptr, path string) (answer string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uid, ^uintptr(0)); errno != 0 {
			err = errno
			return
		}
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return
		}
		_, _ = unix.Write(fd, []byte("GET /v1/traces HTTP/1.0\r\n\r\n")) // a stranger's may find the line cut
		buf := make([]byte, 4096)
		n, _ := unix.Read(fd, buf)
		answer = string(buf[:max(0, n)])
	}()
	<-done
	return answer, err
}
