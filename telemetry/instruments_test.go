package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

func TestEveryInstrumentIsListedBoundedAndWellNamed(t *testing.T) {
	source, err := os.ReadFile("instruments.go")
	if err != nil {
		t.Fatal(err)
	}
	if declared := len(regexp.MustCompile(`(?m)= &Instrument\{`).FindAll(source, -1)); declared != len(Instruments) {
		t.Errorf("%d instruments are declared, %d listed", declared, len(Instruments))
	}
	seen := map[string]bool{}
	for _, i := range Instruments {
		if seen[i.Name] {
			t.Errorf("%s is listed twice", i.Name)
		}
		seen[i.Name] = true
		if i.Help == "" || !strings.HasSuffix(i.Help, ".") {
			t.Errorf("%s: help %q is no sentence", i.Name, i.Help)
		}
		if strings.HasSuffix(i.Name, "_total") != (i.Kind == Counter) {
			t.Errorf("%s is a %s", i.Name, i.Kind)
		}
		if i.Unit != "" && !strings.Contains(i.Name, "_"+i.Unit) {
			t.Errorf("%s does not name its unit %s", i.Name, i.Unit)
		}
		for _, l := range i.Labels {
			if (len(l.Values) > 0) == (l.Max > 0) || l.Max > 64 {
				t.Errorf("%s: label %s is not bounded in one way", i.Name, l.Name)
			}
			for _, s := range i.Spans {
				if v, fixed := s.Set[l.Name]; fixed && !slices.Contains(l.Values, v) {
					t.Errorf("%s: source %s sets %s=%s, which is not listed", i.Name, s.Span, l.Name, v)
				}
				if s.Set[l.Name] == "" && s.From[l.Name] == "" && l.Name != outcomes.Name {
					t.Errorf("%s: source %s has no value for %s", i.Name, s.Span, l.Name)
				}
			}
		}
	}
}

func TestMetricsPassPromlint(t *testing.T) {
	tel, _ := start(t, Config{})
	everything(tel)
	tel.ended.settle()
	families, err := tel.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	ours := map[string]bool{}
	for _, f := range families {
		ours[strings.TrimPrefix(f.GetName(), prefix)] = true
	}
	for _, i := range Instruments {
		if !ours[i.Name] {
			t.Errorf("%s never shows", i.Name)
		}
	}
}

// everything makes every instrument show.
func everything(tel *Telemetry) {
	for _, i := range Instruments {
		values := make([]string, len(i.Labels))
		for n, l := range i.Labels {
			values[n] = "x"
			if len(l.Values) > 0 {
				values[n] = l.Values[0]
			}
		}
		switch f := tel.metrics.families[i]; {
		case f.counter != nil:
			tel.metrics.add(i, 1, values...)
		case f.histogram != nil:
			tel.metrics.observe(i, time.Millisecond, nil, values...)
		case f.gauge != nil:
			f.gauge.WithLabelValues(values...).Set(1)
		default:
			tel.metrics.provide(i, func(emit func(float64, ...string)) { emit(1, values...) })
		}
	}
}

func TestValuesBeyondALabelsBoundAreCountedAsOther(t *testing.T) {
	tel, _ := start(t, Config{})
	for n := range 100 {
		ctx := tel.Context(t.Context())
		_, span := Start(ctx, "network.cni", KeyCNIPlugin.String(fmt.Sprint("plugin", n)), KeyCNICommand.String("EXPLODE"))
		span.End(nil)
	}
	page := scrape(t, tel, "/metrics", "text/plain")
	if n := strings.Count(page, "vitrine_cni_plugin_duration_seconds_count{"); n != 21 {
		t.Errorf("%d series of 100 plugins, want 20 and other", n)
	}
	if !strings.Contains(page, `vitrine_cni_plugin_duration_seconds_count{command="other",outcome="ok",plugin="other"} 80`) {
		t.Error("the rest is not counted as other")
	}
}

func TestPullsAreCountedByPhaseBytesAndClassOfFailure(t *testing.T) {
	tel, _ := start(t, Config{})
	ctx, pull := Start(tel.Context(t.Context()), "image.pull")
	if got := sample(t, tel, "vitrine_image_pulls_inflight"); got != "1" {
		t.Errorf("in flight: %q", got)
	}
	_, layer := Start(ctx, "image.layer.download", KeyImageEndpoint.String("mirror.example"), KeyImageTransport.String("h2"))
	layer.Set(KeyImageBytes.Int64(4096))
	layer.End(nil)
	_, auth := Start(ctx, "image.auth")
	auth.End(nil)
	_, apply := StartAt(ctx, time.Now().Add(-time.Hour), "image.layer.apply", KeyDecompressSeconds.Float64(2.5), KeyWriteSeconds.Float64(0.25))
	apply.End(nil)
	_, torn := Start(ctx, "image.layer.apply") // ended before anybody could say
	torn.End(nil)
	err := errors.New("pull: no such image")
	pull.Set(KeyErrorType.String("notfound"))
	pull.End(&err)
	for series, want := range map[string]string{
		"vitrine_image_pulls_inflight":                                             "0",
		`vitrine_image_pull_duration_seconds_count{outcome="error",phase="pull"}`:  "1",
		`vitrine_image_pull_duration_seconds_count{outcome="ok",phase="download"}`: "1",
		`vitrine_image_pull_duration_seconds_count{outcome="ok",phase="auth"}`:     "1",
		`vitrine_image_pull_duration_seconds_sum{outcome="ok",phase="decompress"}`: "2.5",
		`vitrine_image_pull_duration_seconds_sum{outcome="ok",phase="apply"}`:      "0.25",
		`vitrine_image_pull_duration_seconds_count{outcome="ok",phase="apply"}`:    "1",
		`vitrine_image_pull_bytes_total{endpoint="mirror.example",transport="h2"}`: "4096",
		`vitrine_image_pull_errors_total{class="notfound"}`:                        "1",
		`vitrine_image_pull_errors_total{class="disk"}`:                            "0",
	} {
		if got := sample(t, tel, series); got != want {
			t.Errorf("%s = %q, want %s", series, got, want)
		}
	}
}

func TestHooksAreToldByProgramAndEvent(t *testing.T) {
	tel, _ := start(t, Config{})
	for _, name := range []string{"oci.hook.createRuntime.toolkit", "oci.hook.createRuntime.toolkit", "oci.hook.poststop.clean.up.sh", "oci.hook.someday.toolkit"} {
		_, span := Start(tel.Context(t.Context()), name)
		span.End(nil)
	}
	for labels, want := range map[string]string{
		`event="createRuntime",hook="toolkit",outcome="ok"`: "2",
		`event="poststop",hook="clean.up.sh",outcome="ok"`:  "1",
		`event="other",hook="toolkit",outcome="ok"`:         "1",
	} {
		if got := sample(t, tel, "vitrine_oci_hook_duration_seconds_count{"+labels+"}"); got != want {
			t.Errorf("%s: %q, want %s", labels, got, want)
		}
	}
}

// podScript is a pod's life in events.
func podScript() []pod.Event {
	at := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	sandbox := pod.Sandbox{ID: pod.ID(strings.Repeat("a", 64)), State: pod.Ready, CreatedAt: at,
		Config:      pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{Metadata: &runtime.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "u1"}}},
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	container := func(digit, name string, exit *pod.Exit) *pod.Container {
		return &pod.Container{ID: pod.ID(strings.Repeat(digit, 64)), SandboxID: sandbox.ID,
			Config:    pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: name}}},
			CreatedAt: at, StartedAt: at.Add(20 * time.Millisecond), FinishedAt: at.Add(5 * time.Second), Exit: exit}
	}
	script := []pod.Event{
		{Kind: pod.SandboxReady, To: pod.Ready},
		{Kind: pod.ContainerCreated, Container: container("b", "app", nil), To: pod.Created},
		{Kind: pod.ContainerStarted, Container: container("b", "app", nil), From: pod.Starting, To: pod.Running},
		{Kind: pod.ContainerExited, Container: container("b", "app", &pod.Exit{Source: "monitor", Reason: "Completed", LogBytes: 120, LogLines: 4}), From: pod.Running, To: pod.Exited},
		{Kind: pod.ContainerExited, Container: container("c", "hog", &pod.Exit{Code: 137, Signal: 9, Source: "monitor", Reason: "OOMKilled", Message: "killed by\nits own limit"}), From: pod.Running, To: pod.Exited},
		{Kind: pod.ContainerExited, Container: container("d", "old", &pod.Exit{Code: 143, Signal: 15, Source: "monitor", Reason: "Error"}), From: pod.Stopping, To: pod.Exited},
		{Kind: pod.ContainerExited, Container: container("e", "bad", &pod.Exit{Code: 159, Signal: 31, Source: "monitor", Reason: "Error"}), From: pod.Running, To: pod.Exited},
		{Kind: pod.ContainerExited, Container: container("f", "lost", &pod.Exit{Code: -1, Source: "unknown", Reason: "MonitorLost"}), From: pod.Running, To: pod.Exited},
		{Kind: pod.ContainerRemoved, Container: container("b", "app", nil), From: pod.Exited},
		{Kind: pod.SandboxStopped, From: pod.Stopping, To: pod.NotReady},
		{Kind: pod.SandboxRemoved, From: pod.NotReady},
	}
	for n := range script {
		script[n].Seq, script[n].Time, script[n].Sandbox = uint64(n+1), at, sandbox
	}
	return script
}

func TestEventsBecomeOneLineAndTheirMetrics(t *testing.T) {
	tel, log := start(t, Config{})
	script := podScript()
	for _, e := range script {
		tel.Observe(e)
	}
	lines := regexp.MustCompile(`(?m)^time=\S+ `).ReplaceAllString(log.String(), "")
	if n := strings.Count(lines, "\n"); n != len(script) {
		t.Errorf("%d lines for %d events", n, len(script))
	}
	golden.Check(t, filepath.Join("testdata", "events.log"), lines)

	var page strings.Builder
	for line := range strings.Lines(scrape(t, tel, "/metrics", "text/plain")) {
		for _, family := range []string{"events_total", "container_", "monitor_lost", "log_"} {
			if strings.HasPrefix(line, prefix+family) && !strings.HasSuffix(line, " 0\n") {
				page.WriteString(line)
			}
		}
	}
	golden.Check(t, filepath.Join("testdata", "events.metrics"), page.String())
}

func TestMetricsPageIsGenerated(t *testing.T) {
	golden.Check(t, filepath.Join("..", "docs", "metrics.md"), string(metricsPage()))
}

func metricsPage() []byte {
	var b bytes.Buffer
	b.WriteString(`# Metrics

Generated from telemetry/instruments.go by ` + "`go generate ./telemetry`" + `; do not edit.

` + "`/metrics`" + ` has the families below, and those of the Go runtime and the process (` + "`go_*`, `process_*`" + `).
Histograms are native ones with classic buckets beside them; the native form needs a scraper that asks for
protobuf. With OpenMetrics, buckets carry exemplars with ` + "`trace_id` and `span_id`" + `: ` + "`vitrine trace TRACEID`" + ` draws
that trace. A label value beyond its bound is counted as ` + "`other`" + `.

`)
	for _, i := range Instruments {
		fmt.Fprintf(&b, "## %s%s\n\n%s Kind: %s", prefix, i.Name, i.Help, i.Kind)
		if i.Unit != "" {
			fmt.Fprintf(&b, ", in %s", i.Unit)
		}
		b.WriteString(".\n")
		for n, l := range i.Labels {
			if n == 0 {
				b.WriteString("\n| label | values |\n|---|---|\n")
			}
			if len(l.Values) > 0 {
				fmt.Fprintf(&b, "| `%s` | %s |\n", l.Name, strings.Join(l.Values, ", "))
			} else {
				fmt.Fprintf(&b, "| `%s` | at most %d |\n", l.Name, l.Max)
			}
		}
		if len(i.Spans) > 0 && !i.Live {
			b.WriteString("\nFrom spans:\n\n")
			for _, s := range i.Spans {
				fmt.Fprintf(&b, "- `%s`%s\n", s.Span, sourceNotes(i, s))
			}
		}
		b.WriteByte('\n')
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func sourceNotes(i *Instrument, s Source) string {
	var notes []string
	for _, l := range i.Labels {
		switch {
		case s.Set[l.Name] != "":
			notes = append(notes, fmt.Sprintf("%s=%s", l.Name, s.Set[l.Name]))
		case s.From[l.Name] == "name":
			notes = append(notes, l.Name+" is the span's name")
		case s.From[l.Name] != "":
			notes = append(notes, fmt.Sprintf("%s from `%s`", l.Name, s.From[l.Name]))
		}
	}
	if s.Value != "" && i.Kind == Histogram {
		notes = append(notes, fmt.Sprintf("seconds from `%s`", s.Value))
	} else if s.Value != "" {
		notes = append(notes, fmt.Sprintf("grows by `%s`", s.Value))
	}
	if s.Failed {
		notes = append(notes, "only spans that failed")
	}
	if len(notes) == 0 {
		return ""
	}
	return ": " + strings.Join(notes, ", ")
}
