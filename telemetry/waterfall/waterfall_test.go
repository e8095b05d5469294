package waterfall

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/golden"
)

const ms = int64(time.Millisecond)

// begin is a fixed moment, so that drawings are the same everywhere.
var begin = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC).UnixNano()

func span(id, parent, name string, from, to int64, more ...func(*Span)) Span {
	s := Span{ID: id, ParentID: parent, Name: name, Service: "vitrined", Start: begin + from*ms, End: begin + to*ms}
	for _, f := range more {
		f(&s)
	}
	return s
}

func server(s *Span) { s.Kind = "server" }

func with(pairs ...string) func(*Span) {
	return func(s *Span) {
		s.Attributes = map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			s.Attributes[pairs[i]] = pairs[i+1]
		}
	}
}

func failed(why string) func(*Span) { return func(s *Span) { s.Error, s.Status = true, why } }

func by(service string) func(*Span) { return func(s *Span) { s.Service = service } }

func podTraces() []*Trace {
	return []*Trace{
		{ID: "11111111111111111111111111111111", Spans: []Span{
			span("r", "", "runtime.v1.RuntimeService/RunPodSandbox", 0, 212, server),
			span("n", "r", "network.attach", 9, 190),
			span("b", "n", "network.cni", 9, 120, with("vitrine.cni.plugin", "bridge", "vitrine.cni.command", "ADD")),
			span("p", "n", "network.cni", 121, 189, with("vitrine.cni.plugin", "portmap", "vitrine.cni.command", "ADD")),
			span("u", "r", "network.namespaces", 1, 8),
			span("l", "r", "lifecycle.record", 190, 212),
		}},
		{ID: "22222222222222222222222222222222", Spans: []Span{
			span("c", "", "runtime.v1.RuntimeService/CreateContainer", 230, 280, server, func(s *Span) {
				s.Attributes = map[string]any{"container.id": "c1"}
			}),
			span("k", "c", "lifecycle.create_container", 231, 279, with("container.id", "c1", "k8s.container.name", "app",
				"k8s.namespace.name", "shop", "k8s.pod.name", "web", "container.image.name", "registry.example/app")),
			span("m", "k", "monitor.create", 240, 279, by("vitrine-monitor")),
			span("f", "m", "libct.rootfs", 250, 270, by("vitrine-launch")),
		}},
		{ID: "33333333333333333333333333333333", Dropped: 2, Spans: []Span{
			span("s", "kubelet", "runtime.v1.RuntimeService/StartContainer", 90_000, 90_030, server, failed("start container app: exec /bin/nothing: no such file\x1b[2J")),
			span("x", "s", "monitor.start", 90_001, 90_029, by("vitrine-monitor"), func(s *Span) {
				s.Unfinished = true
				s.Links = []Link{{TraceID: "22222222222222222222222222222222", SpanID: "m"}}
				s.Events = []Event{{Name: "first-byte", Time: begin + 90_020*ms, Attributes: map[string]any{"log.iostream": "stdout"}}}
			}),
		}},
	}
}

func TestWaterfallOfAPod(t *testing.T) {
	for _, width := range []int{0, 60, 160} {
		var b strings.Builder
		if err := Render(&b, podTraces(), Options{Width: width, Events: true}); err != nil {
			t.Fatal(err)
		}
		golden.Check(t, filepath.Join("testdata", fmt.Sprintf("pod-%d.txt", width)), b.String())
		limit := width
		if width == 0 {
			limit = 100
		}
		for line := range strings.Lines(b.String()) {
			if strings.ContainsAny(line, "✗█") && len([]rune(strings.TrimRight(line, "\n"))) > limit {
				t.Errorf("width %d: line of %d columns: %s", width, len([]rune(line)), line)
			}
			if strings.Contains(line, "\x1b") {
				t.Errorf("escape sequence of a span reached the terminal: %q", line)
			}
		}
	}
}

func TestBrokenTracesAreDrawnWhole(t *testing.T) {
	for name, spans := range map[string][]Span{
		"circle":        {span("a", "b", "one", 0, 5), span("b", "a", "two", 1, 2)},
		"own parent":    {span("a", "a", "one", 0, 5)},
		"no duration":   {span("a", "", "one", 0, 0)},
		"ends first":    {span("a", "", "one", 5, 0)},
		"same id twice": {span("a", "", "one", 0, 5), span("a", "", "one", 0, 5)},
	} {
		var b strings.Builder
		if err := Render(&b, []*Trace{{ID: "t", Spans: spans}, {ID: "empty"}}, Options{}); err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			if !strings.Contains(b.String(), s.Name) {
				t.Errorf("%s: span %s is missing from\n%s", name, s.Name, b.String())
			}
		}
	}
}

func TestCoverageIsTheUnionOfDirectChildrenWithinTheSpan(t *testing.T) {
	for name, c := range map[string]struct {
		children [][2]int64
		want     float64
	}{
		"none":               {nil, 0},
		"one":                {[][2]int64{{0, 50}}, 0.5},
		"overlapping":        {[][2]int64{{0, 50}, {25, 75}}, 0.75},
		"one in another":     {[][2]int64{{0, 90}, {10, 20}}, 0.9},
		"outside is clipped": {[][2]int64{{-50, 10}, {95, 500}}, 0.15},
		"all":                {[][2]int64{{0, 40}, {40, 100}}, 1},
	} {
		trace := &Trace{Spans: []Span{span("r", "", "root", 0, 100)}}
		for i, in := range c.children {
			child := fmt.Sprint(i)
			trace.Spans = append(trace.Spans, span(child, "r", "child", in[0], in[1]),
				span("g"+child, child, "grandchild", 0, 100)) // must not count
		}
		if got := Coverage(trace, "r"); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: coverage %v, want %v", name, got, c.want)
		}
		var idle time.Duration
		for _, gap := range Gaps(trace, "r") {
			idle += gap.Duration
		}
		if want := time.Duration((1 - c.want) * float64(100*ms)); (idle - want).Abs() > time.Microsecond {
			t.Errorf("%s: gaps sum to %s, want %s", name, idle, want)
		}
	}
}

func TestReportNamesTheLongestGap(t *testing.T) {
	golden.Check(t, filepath.Join("testdata", "report.txt"), Report(podTraces()[0], "r"))
}

func TestDurationHasThreeDigits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0µs", 412 * time.Microsecond: "412µs", 1234 * time.Microsecond: "1.23ms", 99949 * time.Microsecond: "99.9ms",
		999 * time.Millisecond: "999ms", 12340 * time.Millisecond: "12.3s", 245 * time.Second: "4m05s", 3 * time.Hour: "3h00m",
		-time.Second: "-1.00s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %s, want %s", d, got, want)
		}
	}
}
