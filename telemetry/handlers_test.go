package telemetry

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Steps of other rooms and processes count for the handler of the pod that they are
// about, also when they end before the operation that says it.
func TestStepsCountForTheHandlerOfTheirPod(t *testing.T) {
	tel, _ := start(t, Config{})
	path := receive(t, tel)
	for _, handler := range []string{"kata", ""} {
		var attrs []attribute.KeyValue
		if handler != "" {
			attrs = append(attrs, KeyHandler.String(handler))
		}
		ctx, op := Start(tel.Context(t.Context()), "lifecycle.create_container", attrs...)
		_, step := Start(ctx, "lifecycle.spec")
		step.End(nil)
		id, parent := op.span.SpanContext().TraceID(), op.span.SpanContext().SpanID()
		body := marshal(t, &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{received(string(id[:]), "m", parent[:])}})
		if code, answer := post(t, client(t, path), "traces", body); code != 200 {
			t.Fatalf("answer %d %q", code, answer)
		}
		op.End(nil)
		for _, phase := range []string{"lifecycle.create_container", "lifecycle.spec", "monitor.create"} {
			if got := sample(t, tel, fmt.Sprintf("vitrine_container_phase_duration_seconds_count{handler=%q,outcome=\"ok\",phase=%q}", handler, phase)); got != "1" {
				t.Errorf("%s of handler %q counted %q times", phase, handler, got)
			}
		}
	}
}

func TestHandlersOfOldTracesAreForgotten(t *testing.T) {
	var h handlers
	id := func(n int) (id trace.TraceID) {
		copy(id[:], fmt.Sprintf("%016d", n))
		return id
	}
	for n := range maxHandlers + 1 {
		h.learn(id(n), "kata")
		h.learn(id(n), "kata") // two operations of one trace
	}
	if len(h.byTrace) != maxHandlers || h.of(&record{trace: id(0)}) != "" || h.of(&record{trace: id(maxHandlers)}) != "kata" {
		t.Errorf("%d traces; the first is of %q, the last of %q", len(h.byTrace), h.of(&record{trace: id(0)}), h.of(&record{trace: id(maxHandlers)}))
	}
}

func TestRepairsAndWhatIsGivenBackAreCounted(t *testing.T) {
	tel, _ := start(t, Config{})
	for _, s := range []struct {
		name  string
		attrs []attribute.KeyValue
	}{
		{"image.repair", []attribute.KeyValue{attribute.Int("vitrine.image.layers_removed", 3), attribute.Int("vitrine.image.problems", 2)}},
		{"image.usage", []attribute.KeyValue{KeyFreedBytes.Int64(1000)}},
		{"image.rootfs.remove", []attribute.KeyValue{KeyFreedBytes.Int64(50)}},
	} {
		_, span := Start(tel.Context(t.Context()), s.name, s.attrs...)
		span.End(nil)
	}
	for series, want := range map[string]string{
		`vitrine_storage_repair_total{kind="layer"}`: "3", `vitrine_storage_repair_total{kind="record"}`: "2",
		`vitrine_gc_removed_bytes_total{kind="layer"}`: "1000", `vitrine_gc_removed_bytes_total{kind="rw"}`: "50",
	} {
		if got := sample(t, tel, series); got != want {
			t.Errorf("%s is %q, want %s", series, got, want)
		}
	}
}
