package e2e

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// lineSink is a collector that keeps containers' lines: body, trace and resource.
type lineSink struct {
	mu    sync.Mutex // guards lines
	lines map[string]map[string]string
}

func (s *lineSink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	raw, err := io.ReadAll(body)
	var m collectorlogs.ExportLogsServiceRequest
	if err != nil || !strings.HasSuffix(r.URL.Path, "/v1/logs") || proto.Unmarshal(raw, &m) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rl := range m.ResourceLogs {
		for _, sl := range rl.ScopeLogs {
			for _, record := range sl.LogRecords {
				line := map[string]string{"trace": string(record.TraceId)}
				for _, a := range append(rl.Resource.GetAttributes(), record.Attributes...) {
					line[a.Key] = a.Value.GetStringValue()
				}
				if line["log.iostream"] != "" {
					s.lines[record.Body.GetStringValue()] = line
				}
			}
		}
	}
}

func (s *lineSink) get(body string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[body]
}

func TestContainersLinesReachTheCollectorWithTheirPod(t *testing.T) {
	sink := &lineSink{lines: map[string]map[string]string{}}
	server := httptest.NewServer(sink)
	defer server.Close()
	n := start(t, harness.Options{
		Config: "[runtime]\nannotations = [\"io.vitrine.log.*\"]\n",
		Env:    []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"},
	})
	pod := n.HostPod("speaks")
	pod.Annotations = map[string]string{"io.vitrine.log.otlp/loud": "true"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	_, _ = n.run(sandbox, pod, "silent", "/bin/sh", "-c", "echo not for the collector; exec sleep 1000")
	id, _ := n.run(sandbox, pod, "loud", "/bin/sh", "-c", "echo to the collector; echo in anger >&2; exec sleep 1000")
	for deadline := time.Now().Add(harness.Scale(60 * time.Second)); sink.get("to the collector") == nil || sink.get("in anger") == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %v", sink.lines)
		}
	}
	out, errs := sink.get("to the collector"), sink.get("in anger")
	for key, want := range map[string]string{
		"log.iostream": "stdout", "container.id": id, "k8s.pod.name": "speaks", "k8s.namespace.name": "test",
		"k8s.pod.uid": pod.Metadata.Uid, "k8s.container.name": "loud",
	} {
		if out[key] != want {
			t.Errorf("%s is %q, want %q", key, out[key], want)
		}
	}
	if len(out["trace"]) != 16 || errs["log.iostream"] != "stderr" || sink.get("not for the collector") != nil {
		t.Errorf("got %v", sink.lines)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
