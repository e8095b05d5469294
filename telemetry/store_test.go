package telemetry

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func storedSpan(id int, name, kind string, attrs map[string]any) *record {
	r := &record{}
	r.trace[0], r.trace[1], r.trace[2] = byte(id>>8), byte(id), 1
	r.Span = waterfall.Span{ID: fmt.Sprintf("%016x", id), Name: name, Kind: kind, Start: int64(id + 1), End: int64(id + 2), Attributes: attrs}
	return r
}

func TestStoreForgetsTheOldestTraceAndStaysWithinItsBytes(t *testing.T) {
	s := newStore(100_000)
	for n := range 2000 {
		s.add(storedSpan(n, "lifecycle.run_sandbox", "", map[string]any{"k8s.pod.uid": fmt.Sprint("uid-", n)}))
	}
	s.each(func(class string, bytes, traces int) {
		if bytes > 100_000 || class == "acts" && traces < 50 {
			t.Errorf("%s: %d bytes, %d traces", class, bytes, traces)
		}
	})
	if len(s.find("uid-0", true, 1)) != 0 || len(s.find("uid-1999", true, 1)) != 1 {
		t.Error("not the oldest was forgotten")
	}
	if len(s.index) != len(s.traces) {
		t.Errorf("%d names of %d traces", len(s.index), len(s.traces))
	}
}

func TestPollingDoesNotPushOutWhatActs(t *testing.T) {
	s := newStore(100_000)
	s.add(storedSpan(1, "runtime.v1.RuntimeService/RunPodSandbox", "server", map[string]any{"k8s.pod.uid": "u"}))
	slow := storedSpan(2, "runtime.v1.RuntimeService/ListContainers", "server", nil)
	slow.End = slow.Start + int64(2*time.Second)
	s.add(slow)
	for n := range 5000 {
		s.add(storedSpan(n+10, "cri.list", "", nil))
		s.add(storedSpan(n+10, "runtime.v1.RuntimeService/ListContainers", "server", nil))
	}
	if len(s.find("u", false, 1)) != 1 {
		t.Error("the start of a pod was pushed out by polling")
	}
	if found := s.find("", false, 10); len(found) != 2 {
		t.Errorf("%d traces that act, want the sandbox and the slow list", len(found))
	}
	// One trace id for both: the trace acts.
	s.add(storedSpan(9000, "runtime.v1.RuntimeService/Status", "server", nil))
	s.add(storedSpan(9000, "runtime.v1.RuntimeService/StopContainer", "server", nil))
	if found := s.find("", false, 10); len(found) != 3 {
		t.Errorf("%d traces that act after a stop", len(found))
	}
}

func TestOneTraceIsBoundedInSpans(t *testing.T) {
	s := newStore(0)
	for range maxTraceSpans + 7 {
		s.add(storedSpan(1, "x", "", nil))
	}
	var id trace.TraceID
	copy(id[:], []byte{0, 1, 1})
	if got := s.get(id); len(got.Spans) != maxTraceSpans || got.Dropped != 7 {
		t.Errorf("%d spans, %d dropped", len(got.Spans), got.Dropped)
	}
}

func TestTracesAreFoundByEveryNameOfTheirPod(t *testing.T) {
	s := newStore(0)
	s.add(storedSpan(1, "lifecycle.create_container", "", map[string]any{
		"k8s.pod.uid": "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "k8s.pod.name": "web", "k8s.namespace.name": "shop",
		"k8s.container.name": "app", "vitrine.sandbox.id": "5a5a5a5a5a5a", "container.id": "c0c0c0c0c0c0"}))
	for query, want := range map[string]int{
		"6f9619ff-8b86-d011-b42d-00cf4fc964ff": 1, "6f9619ff": 1, "web": 1, "shop/web": 1, "shop/web/app": 1,
		"5a5a5a5a5a5a": 1, "5a5a5a": 1, "c0c0c0": 1, "5a5a": 0, "shop": 0, "other/web": 0, "": 1,
	} {
		if got := len(s.find(query, true, 10)); got != want {
			t.Errorf("%q: %d traces, want %d", query, got, want)
		}
	}
}

func BenchmarkSpanWithFourAttributes(b *testing.B) {
	tel, err := Setup(b.Context(), Config{})
	if err != nil {
		b.Fatal(err)
	}
	ctx := tel.Context(b.Context())
	for b.Loop() {
		_, span := Start(ctx, "network.cni", KeyCNIPlugin.String("bridge"), KeyCNICommand.String("ADD"), KeyPodName.String("web"), KeyNamespace.String("shop"))
		span.End(nil)
	}
}
