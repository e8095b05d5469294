package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestContainerPageIsValidTextWhateverTheLabels(t *testing.T) {
	tel, _ := start(t, Config{})
	labels := EncodeLabels("namespace", "shop", "pod", "we\"b\n\\\xff", "container", "app")
	tel.ContainerMetrics(func(w io.Writer) error {
		e := Exposition{W: w}
		e.Family("container_memory_usage_bytes", Gauge, "Memory in use,\nall of it.")
		e.Sample(labels, nil, 1<<40)
		e.Sample(labels, EncodeLabels("scope", "pod"), 0.25)
		e.Family("container_cpu_usage_seconds_total", Counter, "CPU time.")
		e.Uint(labels, nil, math.MaxUint64)
		e.Sample(nil, nil, math.Inf(1))
		return e.Flush()
	})
	page := scrape(t, tel, "/metrics/containers", "text/plain")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	m := families["container_memory_usage_bytes"].GetMetric()
	if len(m) != 2 || m[0].GetGauge().GetValue() != 1<<40 || m[0].GetLabel()[1].GetValue() != "we\"b\n\\�" || len(m[1].GetLabel()) != 4 {
		t.Errorf("memory: %v", m)
	}
}

func TestAFailingContainerPageIsNoHalfAnswer(t *testing.T) {
	tel, _ := start(t, Config{})
	tel.ContainerMetrics(func(w io.Writer) error {
		fmt.Fprint(w, "half")
		return errors.New("cgroup is gone")
	})
	answer := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics/containers", nil))
	if answer.Code != 500 || strings.Contains(answer.Body.String(), "half") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

func TestProvidedGaugesAreBoundedAndRefusedWhenUnknown(t *testing.T) {
	tel, _ := start(t, Config{})
	if err := tel.Provide("containers", func(emit func(float64, ...string)) {
		emit(3, "running")
		emit(1, "sleeping")
		emit(1, "dreaming")
		emit(1, "too", "many")
	}); err != nil {
		t.Fatal(err)
	}
	for series, want := range map[string]string{`vitrine_containers{state="running"}`: "3", `vitrine_containers{state="other"}`: "2"} {
		if got := sample(t, tel, series); got != want {
			t.Errorf("%s = %q, want %s", series, got, want)
		}
	}
	for _, name := range []string{"nothing", "events_total"} {
		if err := tel.Provide(name, nil); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// A page that fails when its beginning is on the way must not look like a whole one.
func TestHalfAPageIsNoAnswer(t *testing.T) {
	tel, _ := start(t, Config{})
	tel.ContainerMetrics(func(w io.Writer) error {
		if _, err := w.Write(bytes.Repeat([]byte("# HELP x\n"), 100_000)); err != nil {
			return err
		}
		return errors.New("a cgroup cannot be read")
	})
	server := httptest.NewServer(tel.MetricsHandler())
	defer server.Close()
	answer, err := http.Get(server.URL + "/metrics/containers")
	if err == nil {
		_, err = io.ReadAll(answer.Body)
		answer.Body.Close()
	}
	if err == nil {
		t.Errorf("answered %s, and the page ends well", answer.Status)
	}
}

func TestNativeHistogramsAreOfferedAsProtobuf(t *testing.T) {
	tel, _ := start(t, Config{})
	steps(tel)
	page := scrape(t, tel, "/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if !strings.Contains(page, "vitrine_sandbox_phase_duration_seconds") || strings.HasPrefix(page, "#") {
		t.Error("no protobuf was answered")
	}
}

func BenchmarkContainerPage(b *testing.B) {
	var labels []Labels
	for n := range 500 {
		labels = append(labels, EncodeLabels("namespace", "shop", "pod", fmt.Sprint("web-", n), "container", "app", "id", strings.Repeat("a", 64), "image", "registry.example/app"))
	}
	b.ReportAllocs()
	for b.Loop() {
		e := Exposition{W: io.Discard}
		for f := range 60 {
			e.Family(fmt.Sprint("container_family_", f), Gauge, "Help.")
			for n, l := range labels {
				e.Sample(l, nil, float64(n*f)+0.5)
			}
		}
		if err := e.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
