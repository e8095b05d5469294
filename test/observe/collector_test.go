package observe

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// buildCollector returns the binary, built once per tree.
var buildCollector = sync.OnceValues(func() (string, error) {
	root, err := harness.Root()
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("make", "-C", root, "--no-print-directory", "collector").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make collector: %w\n%s", err, out)
	}
	return filepath.Join(root, ".cache/otel-collector"), nil
})

// collector is a Collector process that may die and come back on the same ports. It
// answers an export when the sink has it, so that what it took has arrived.
type collector struct {
	t          testing.TB
	bin        string
	config     string
	log        string
	grpc, http string
	cmd        *exec.Cmd
	ended      chan struct{}
}

func startCollector(t testing.TB, to *sink) *collector {
	t.Helper()
	dir := t.TempDir()
	c := &collector{t: t, bin: harness.Must(buildCollector())(t), grpc: freePort(t), http: freePort(t),
		config: filepath.Join(dir, "collector.yaml"), log: filepath.Join(dir, "collector.log")}
	config := fmt.Sprintf(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %q}
      http: {endpoint: %q}
exporters:
  otlp_http:
    endpoint: %q
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  telemetry:
    metrics: {level: none}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp_http]}
    logs: {receivers: [otlp], exporters: [otlp_http]}
    metrics: {receivers: [otlp], exporters: [otlp_http]}
`, c.grpc, c.http, to.URL)
	if err := os.WriteFile(c.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			log, _ := os.ReadFile(c.log)
			t.Logf("collector's log:\n%s", log[max(0, len(log)-8<<10):])
		}
	})
	return c
}

func (c *collector) start() {
	c.t.Helper()
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(c.bin, "--config", "file:"+c.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }() // waited for by kill
	c.cmd, c.ended = cmd, ended
	for _, address := range []string{c.grpc, c.http} {
		eventually(c.t, "the collector's "+address, func() string {
			select {
			case <-ended:
				text, _ := os.ReadFile(c.log)
				c.t.Fatalf("collector ended: %s", text)
			default:
			}
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err.Error()
			}
			conn.Close()
			return ""
		})
	}
}

// kill ends it as power would.
func (c *collector) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// env points a daemon at the collector. Delays are short so that the test is.
func (c *collector) env(protocol string) []string {
	address := map[string]string{"grpc": c.grpc, "http/protobuf": c.http}[protocol]
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + address, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol,
		"OTEL_BSP_SCHEDULE_DELAY=200", "OTEL_BLRP_SCHEDULE_DELAY=200", "OTEL_METRIC_EXPORT_INTERVAL=500",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
	}
}

// freePort is an address that nobody listens at now.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// life takes a pod from pull to removal within one trace, and returns that.
func (n *node) life(name string) (traceID string) {
	n.Helper()
	ctx, traceID := harness.Traced(n.ctx)
	harness.Must(n.cri.Pull(ctx, hub.Image))(n)
	pod := n.Pod(name)
	sandbox := harness.Must(n.cri.RunPod(ctx, pod))(n)
	c := harness.Container(pod, "c", n.image, "/bin/payload", "wait")
	id := harness.Must(n.cri.Create(ctx, sandbox, pod, c))(n)
	n.must(n.cri.Start(ctx, id))
	n.must(n.cri.Stop(ctx, id, 0))
	n.must(n.cri.Remove(ctx, id))
	n.must(n.cri.RemovePod(ctx, sandbox))
	return traceID
}

// absent names the spans that the node knows and the sink does not, of the trace.
func (n *node) absent(s *sink, traceID string) string {
	n.Helper()
	known, err := n.Trace(n.ctx, traceID)
	if err != nil {
		return err.Error()
	}
	have := s.trace(traceID)
	var absent []string
	for _, span := range known.Spans {
		if _, found := have[span.ID]; !found {
			absent = append(absent, span.Name)
		}
	}
	return strings.Join(absent, " ")
}

func TestTheCollectorReceivesAPodsLifeAsOneTreeWithItsLogAndMetrics(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			s := startSink(t)
			c := startCollector(t, s)
			n := start(t, harness.Options{Env: c.env(protocol)})
			id := n.life("one")
			eventually(t, "arrival of every span", func() string { return n.absent(s, id) })

			spans := s.trace(id)
			roots, services, methods := map[string]bool{}, map[string]bool{}, []string{}
			for _, a := range spans {
				parent := hex.EncodeToString(a.GetParentSpanId())
				if _, found := spans[parent]; !found {
					roots[parent] = true // the caller's span, which is not ours to report
				}
				services[a.service] = true
				if parent != "" && strings.HasPrefix(a.GetName(), "runtime.v1.") {
					methods = append(methods, a.GetName()[strings.LastIndexByte(a.GetName(), '/')+1:])
				}
			}
			if len(roots) != 1 || roots[""] {
				t.Errorf("%d spans hang from %d parents that are not among them: %v", len(spans), len(roots), roots)
			}
			if !services["vitrined"] || !services["vitrine-monitor"] {
				t.Errorf("spans are of %v", services)
			}
			for _, rpc := range []string{"PullImage", "RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox"} {
				if !slices.Contains(methods, rpc) {
					t.Errorf("no span of %s among %v", rpc, methods)
				}
			}
			eventually(t, "arrival of the log within the trace", func() string {
				have := s.bodies(id)
				for _, want := range []string{"sandbox ready", "container created", "container started", "container exited"} {
					if !slices.Contains(have, want) {
						return want
					}
				}
				return ""
			})
			eventually(t, "arrival of metrics", func() string {
				for _, want := range []string{"vitrine_cri_request_duration_seconds", "vitrine_container_exits_total", "vitrine_sandboxes", "process_resident_memory_bytes"} {
					if s.metric(want) == nil {
						return want
					}
				}
				return ""
			})
			if len(s.bad) > 0 {
				t.Errorf("the Collector passed on %q", s.bad)
			}
		})
	}
}

func TestKillingTheCollectorLosesNothing(t *testing.T) {
	s := startSink(t)
	c := startCollector(t, s)
	n := start(t, harness.Options{Env: append(c.env("grpc"), "OTEL_EXPORTER_OTLP_TIMEOUT=2000")})
	var ids []string
	for round := range 3 {
		ids = append(ids, n.life(fmt.Sprintf("before-%d", round)))
		c.kill()
		for k := range 2 {
			ids = append(ids, n.life(fmt.Sprintf("without-%d-%d", round, k)))
		}
		eventually(t, "a batch on disk", func() string {
			files, _ := filepath.Glob(filepath.Join(n.Data(), "telemetry/*.traces"))
			if len(files) == 0 {
				return "none"
			}
			return ""
		})
		c.start()
	}
	for _, id := range ids {
		eventually(t, "arrival of every span of trace "+id, func() string { return n.absent(s, id) })
		eventually(t, "arrival of the log of trace "+id, func() string {
			if have := s.bodies(id); !slices.Contains(have, "container exited") {
				return strings.Join(have, ", ")
			}
			return ""
		})
	}
	metrics := harness.Must(n.Metrics())(t)
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "vitrine_telemetry_dropped_total") && !strings.HasSuffix(line, " 0\n") {
			t.Errorf("dropped: %s", line)
		}
	}
}
