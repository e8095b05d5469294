package client_test

import (
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	collecttrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// collector is a daemon's OTLP receiver.
type collector struct {
	server *http.Server
	mu     sync.Mutex // guards what follows
	spans  []*trace.Span
	lost   []string // what was wrong with a request
}

func collect(t *testing.T, path string) *collector {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{}
	c.server = &http.Server{Handler: c}
	go c.server.Serve(l)
	t.Cleanup(func() { c.server.Close() })
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	var body collecttrace.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &body)
	}
	if err != nil || r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.lost = append(c.lost, r.Method+" "+r.URL.Path)
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	for _, rs := range body.ResourceSpans {
		attributes := map[string]string{}
		for _, a := range rs.Resource.Attributes {
			attributes[a.Key] = a.Value.GetStringValue()
		}
		if attributes["service.name"] != "vitrine-monitor" || attributes["container.id"] != "abc" {
			c.lost = append(c.lost, "resource without its attributes")
		}
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// named finds spans by name.
func (c *collector) named(name string) (found []*trace.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	parents = "00-" + traceID + "-b7ad6b716920333"
)

func (b *box) traced() *box {
	b.spawn.TelemetrySocket = b.dir + "/otlp.sock"
	b.spawn.Traceparent = parents + "1-01"
	b.spawn.Attributes = map[string]string{"container.id": "abc"}
	return b
}

func TestStepsAreReportedAsSpansUnderTheirRequests(t *testing.T) {
	b := newBox(t, "sh", "-c", "sleep 1; echo first; sleep 1000").traced()
	c := collect(t, b.spawn.TelemetrySocket)
	b.create()
	b.must(b.m.StartContainer(client.WithTraceparent(b.ctx, parents+"2-01")))
	s, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.process("true"), Traceparent: parents + "3-01"})
	b.must(err)
	defer s.Close()
	b.eventually("the last span", func() bool { return len(c.named("monitor.first_output")) == 1 && len(c.named("monitor.exec")) == 1 })
	for name, parent := range map[string]string{"monitor.create": "1", "monitor.start": "2", "monitor.first_output": "2", "monitor.exec": "3"} {
		got := c.named(name)
		if len(got) != 1 || hex.EncodeToString(got[0].TraceId) != traceID || hex.EncodeToString(got[0].ParentSpanId) != "b7ad6b716920333"+parent {
			t.Errorf("%s: %v", name, got)
		}
	}
	root, start, first := c.named("monitor.create")[0], c.named("monitor.start")[0], c.named("monitor.first_output")[0]
	if first.StartTimeUnixNano != start.StartTimeUnixNano || first.EndTimeUnixNano < start.EndTimeUnixNano+40e6 {
		t.Errorf("first output from %d to %d, start from %d to %d", first.StartTimeUnixNano, first.EndTimeUnixNano, start.StartTimeUnixNano, start.EndTimeUnixNano)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var covered uint64
	names := map[string]bool{}
	for _, s := range c.spans {
		if string(s.ParentSpanId) == string(root.SpanId) {
			covered += s.EndTimeUnixNano - s.StartTimeUnixNano
			names[s.Name] = true
		}
	}
	if total := root.EndTimeUnixNano - root.StartTimeUnixNano; covered*100 < total*98 || covered > total*101/100 {
		t.Errorf("children cover %d of %d ns", covered, total)
		for _, s := range c.spans {
			t.Logf("%9d +%9d %s", s.StartTimeUnixNano-root.StartTimeUnixNano, s.EndTimeUnixNano-s.StartTimeUnixNano, s.Name)
		}
	}
	for _, step := range b.made.Steps {
		if !names[step.Name] {
			t.Errorf("the launcher's step %s is no child of monitor.create", step.Name)
		}
	}
	if len(c.lost) > 0 {
		t.Errorf("lost: %q", c.lost)
	}
}

func TestFailureIsOnTheSpanOfTheStepThatFailed(t *testing.T) {
	b := newBox(t, "no-such-command").traced()
	c := collect(t, b.spawn.TelemetrySocket)
	if err := b.tryCreate(); err == nil {
		t.Fatal("created")
	}
	b.eventually("the span", func() bool { return len(c.named("monitor.create")) == 1 })
	if s := c.named("monitor.create")[0]; s.Status.GetCode() != trace.Status_STATUS_CODE_ERROR || !strings.Contains(s.Status.Message, "no-such-command") {
		t.Errorf("status %v", s.Status)
	}
}

func TestSpansWaitOnDiskForADaemonThatIsAway(t *testing.T) {
	b := newBox(t, "echo", "hello").traced().start()
	b.exit()
	b.eventually("the spool", func() bool {
		s, err := b.m.Stats(b.ctx)
		b.must(err)
		return s.SpansSpooled > 10 && s.SpansSent == 0
	})
	if _, err := os.Stat(b.dir + "/" + wire.SpoolFile); err != nil {
		t.Error(err)
	}
	c := collect(t, b.spawn.TelemetrySocket)
	again, err := client.Connect(b.ctx, b.dir)
	b.must(err)
	defer again.Close()
	b.eventually("delivery", func() bool {
		return len(c.named("monitor.create")) == 1 && len(c.named("monitor.start")) == 1 && len(c.named("monitor.first_output")) == 1
	})
	b.eventually("an empty spool", func() bool { _, err := os.Stat(b.dir + "/" + wire.SpoolFile); return os.IsNotExist(err) })
}

func TestDeadCollectorHoldsNothingUp(t *testing.T) {
	b := newBox(t, "sleep", "1000").traced()
	l, err := net.Listen("unix", b.spawn.TelemetrySocket) // accepts, and never answers
	b.must(err)
	defer l.Close()
	b.start()
	began := time.Now()
	for range 10 {
		if _, _, code := b.exec("true"); code != 0 {
			t.Fatal(code)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ten execs took %v", took)
	}
}

func TestUnsampledTracesAreNotReported(t *testing.T) {
	b := newBox(t, "echo", "x").traced()
	b.spawn.Traceparent = parents + "1-00"
	c := collect(t, b.spawn.TelemetrySocket)
	b.start().exit()
	if s, err := b.m.Stats(b.ctx); err != nil || s.SpansSent+s.SpansSpooled+s.SpansDropped != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if len(c.spans) != 0 {
		t.Errorf("%d spans", len(c.spans))
	}
}
