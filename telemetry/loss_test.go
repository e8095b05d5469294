package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// fickle is an OTLP/HTTP collector that serves only while it is well, and counts
// what arrived by name or body.
type fickle struct {
	mu   sync.Mutex // guards the rest
	ill  http.HandlerFunc
	seen map[string]int
}

func (f *fickle) behave(ill http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ill = ill
}

func (f *fickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	f.mu.Lock()
	ill := f.ill
	f.mu.Unlock()
	if ill != nil || err != nil {
		ill(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.URL.Path {
	case "/v1/traces":
		var m collectortrace.ExportTraceServiceRequest
		if proto.Unmarshal(raw, &m) == nil {
			for _, rs := range m.GetResourceSpans() {
				for _, s := range rs.GetScopeSpans()[0].GetSpans() {
					f.seen[s.GetName()]++
				}
			}
		}
	case "/v1/logs":
		var m collectorlogs.ExportLogsServiceRequest
		if proto.Unmarshal(raw, &m) == nil {
			for _, rl := range m.GetResourceLogs() {
				for _, r := range rl.GetScopeLogs()[0].GetLogRecords() {
					f.seen[r.GetBody().GetStringValue()]++
				}
			}
		}
	default:
		f.seen[r.URL.Path]++
	}
}

// missing are those of n numbered names that did not arrive. An export whose answer
// came too late is repeated: once or more is what OTLP can promise.
func (f *fickle) missing(prefix string, n int) (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range n {
		if name := fmt.Sprintf("%s.%d", prefix, i); f.seen[name] == 0 {
			list = append(list, name)
		}
	}
	return list
}

// Whatever a collector does for a while, within the bounds of queue and spool every
// span and every record arrives once it is well again.
func TestAnIllCollectorLosesNothing(t *testing.T) {
	for name, ill := range map[string]http.HandlerFunc{
		"unavailable": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"overloaded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"unauthorized": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"silent":       func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"cut off":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fickle{ill: ill, seen: map[string]int{}}
			server := httptest.NewServer(f)
			defer server.Close()
			dir := t.TempDir()
			tel, err := Setup(t.Context(), Config{Endpoint: server.URL, Protocol: protocolHTTP, SpoolDir: dir, QueueSize: 1 << 16,
				ExportDelay: time.Millisecond, ExportTimeout: 300 * time.Millisecond, MetricInterval: time.Hour, LogOutput: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			const n = 3000
			log := tel.Logger()
			for i := range n {
				_, span := Start(tel.Context(t.Context()), fmt.Sprintf("test.step.%d", i))
				span.End(nil)
				log.Info(fmt.Sprintf("line.%d", i))
			}
			tel.ended.settle()
			eventually(t, "batches on disk", func() bool {
				spans, _ := filepath.Glob(filepath.Join(dir, "*.traces"))
				records, _ := filepath.Glob(filepath.Join(dir, "*.logs"))
				return len(spans) > 0 && len(records) > 0
			})
			f.behave(nil)
			deadline := time.Now().Add(time.Minute)
			for len(f.missing("test.step", n)) > 0 || len(f.missing("line", n)) > 0 {
				if time.Now().After(deadline) {
					t.Fatalf("did not arrive: %.5q, %.5q", f.missing("test.step", n), f.missing("line", n))
				}
				time.Sleep(20 * time.Millisecond)
			}
			for line := range strings.Lines(scrape(t, tel, "/metrics", "text/plain")) {
				if strings.HasPrefix(line, "vitrine_telemetry_dropped_total") && !strings.HasSuffix(line, " 0\n") {
					t.Error("dropped although all arrived: " + line)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := tel.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestABatchThatIsAtFaultIsDroppedAndCountedAndTheNextGoesOn(t *testing.T) {
	f := &fickle{ill: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, seen: map[string]int{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	tel, _ := start(t, Config{Endpoint: server.URL, Protocol: protocolHTTP, SpoolDir: t.TempDir(), ExportDelay: time.Millisecond, MetricInterval: time.Hour})
	steps(tel)
	tel.ended.settle()
	eventually(t, "the drop", func() bool {
		return sample(t, tel, `vitrine_telemetry_dropped_total{reason="refused",signal="traces"}`) == "2"
	})
	f.behave(nil)
	steps(tel)
	tel.ended.settle()
	eventually(t, "the next", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.seen["network.attach"] > 0 })
}

func TestStoppingWithADeadCollectorKeepsEverythingForTheNextDaemon(t *testing.T) {
	dir := t.TempDir()
	f := &fickle{ill: func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, seen: map[string]int{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c := Config{Endpoint: server.URL, Protocol: protocolHTTP, SpoolDir: dir, ExportDelay: time.Millisecond, MetricInterval: time.Hour}
	tel, _ := start(t, c)
	for i := range 100 {
		_, span := Start(tel.Context(t.Context()), fmt.Sprintf("test.step.%d", i))
		span.End(nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_ = tel.Shutdown(ctx) // says that the time was up
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Shutdown took %s with a bound of 50 ms", took)
	}
	f.behave(nil)
	start(t, c)
	eventually(t, "the spans of the daemon before", func() bool { return len(f.missing("test.step", 100)) == 0 })
}

func TestAnswersOfTheProtocolAreTold(t *testing.T) {
	for code, final := range map[codes.Code]bool{
		codes.InvalidArgument: true, codes.Internal: true, codes.Unavailable: false, codes.DeadlineExceeded: false,
		codes.ResourceExhausted: false, codes.Unauthenticated: false, codes.Unimplemented: false, codes.DataLoss: false,
	} {
		if _, refused := classifyGRPC(status.Error(code, "x")).(refusal); refused != final {
			t.Errorf("%s: final %v, want %v", code, refused, final)
		}
	}
	for code, final := range map[int]bool{400: true, 413: true, 500: true, 401: false, 404: false, 429: false, 502: false, 503: false, 307: false} {
		if _, refused := classifyHTTP(&http.Response{StatusCode: code}, nil).(refusal); refused != final {
			t.Errorf("%d: final %v, want %v", code, refused, final)
		}
	}
}
