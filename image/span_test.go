package image

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// traced runs f under a root span and returns all spans that ended.
func traced(t *testing.T, f func(ctx context.Context)) tracetest.SpanStubs {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	ctx, root := provider.Tracer("test").Start(t.Context(), "test")
	f(ctx)
	root.End()
	return exporter.GetSpans()
}

func find(spans tracetest.SpanStubs, name string) []tracetest.SpanStub {
	var found []tracetest.SpanStub
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// covered is the share of a span's time in which one of its children runs.
func covered(spans tracetest.SpanStubs, of tracetest.SpanStub) float64 {
	type piece struct{ from, to time.Time }
	var pieces []piece
	for _, s := range spans {
		if s.Parent.SpanID() == of.SpanContext.SpanID() {
			pieces = append(pieces, piece{s.StartTime, s.EndTime})
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int { return a.from.Compare(b.from) })
	var sum time.Duration
	end := of.StartTime
	for _, p := range pieces {
		if p.from.After(end) {
			end = p.from
		}
		if p.to.After(end) {
			sum += p.to.Sub(end)
			end = p.to
		}
	}
	return sum.Seconds() / of.EndTime.Sub(of.StartTime).Seconds()
}

func TestChildrenOfAPullCoverItAndADelayShowsWhereItIs(t *testing.T) {
	const delay = 2 * time.Second // more than anything takes by itself on a busy machine
	for _, plain := range []bool{false, true} {
		w := newWorld(t, func(c *Config) { c.PlainPull = plain })
		pushed := w.push("traced/image:1", fixture.Image{Layers: append(everything(fixture.Gzip, false).Layers, bulky(4<<20).Layers...)})
		for name, test := range map[string]struct {
			fault fixture.Fault
			span  string // what must have taken at least the delay
		}{
			"quiet":         {},
			"slow manifest": {fixture.Fault{Path: "/manifests/", Delay: delay, Times: 1}, "image.manifest"},
			"slow layer":    {fixture.Fault{Path: "/blobs/sha256:", Delay: delay}, "image.layer.download"},
		} {
			t.Run(name, func(t *testing.T) {
				defer w.proxy.Inject(test.fault)()
				var spans tracetest.SpanStubs
				for try := 3; ; try-- { // a busy machine may put a pause between two children
					spans = traced(t, func(ctx context.Context) {
						if _, err := w.Pull(ctx, PullRequest{Ref: pushed.Ref}); err != nil {
							t.Fatal(err)
						}
					})
					if err := w.Remove(t.Context(), pushed.Ref); err != nil {
						t.Fatal(err)
					}
					pull := find(spans, "image.pull")
					if len(pull) != 1 {
						t.Fatalf("%d spans image.pull", len(pull))
					}
					share := covered(spans, pull[0])
					if share >= 0.98 || test.fault.Times > 0 {
						break
					}
					if try > 1 {
						continue
					}
					t.Errorf("children cover %.1f %% of the pull", 100*share)
					for _, s := range spans {
						t.Logf("%-24s %8.3f %8.3f ms", s.Name, s.StartTime.Sub(pull[0].StartTime).Seconds()*1000, s.EndTime.Sub(s.StartTime).Seconds()*1000)
					}
					break
				}
				if test.span != "" && !plain {
					slowest := time.Duration(0)
					for _, s := range find(spans, test.span) {
						slowest = max(slowest, s.EndTime.Sub(s.StartTime))
					}
					if slowest < delay {
						t.Errorf("%s took %s", test.span, slowest)
					}
					for _, s := range spans {
						if strings.HasPrefix(s.Name, "image.layer.apply") && s.EndTime.Sub(s.StartTime) > delay-delay/30 {
							t.Errorf("%s took %s", s.Name, s.EndTime.Sub(s.StartTime))
						}
					}
				}
			})
		}
	}
}

func TestLayerSpansSayWhatCameFromWhere(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("traced/image:2", small("spans"))
	spans := traced(t, func(ctx context.Context) {
		if _, err := w.Pull(ctx, PullRequest{Ref: pushed.Ref}); err != nil {
			t.Fatal(err)
		}
	})
	downloads := find(spans, "image.layer.download")
	if len(downloads) != 2 || len(find(spans, "image.layer.apply")) != 2 || len(find(spans, "image.layer.commit")) != 2 || len(find(spans, "image.layer")) != 2 {
		t.Fatalf("%d downloads of %d spans", len(downloads), len(spans))
	}
	attrs := map[string]string{}
	for _, kv := range downloads[0].Attributes {
		attrs[string(kv.Key)] = kv.Value.Emit()
	}
	if attrs["vitrine.image.endpoint"] != w.proxy.Addr || attrs["vitrine.image.layer.digest"] == "" || attrs["vitrine.image.bytes"] == "0" {
		t.Errorf("attributes: %v", attrs)
	}
	for _, name := range []string{"image.queue", "image.resolve", "image.manifest", "image.policy", "image.config", "image.record"} {
		if len(find(spans, name)) != 1 {
			t.Errorf("%d spans %s", len(find(spans, name)), name)
		}
	}
}

func TestErrorsOfSpansAreRedactedAndOnTheStepThatFailed(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("traced/image:3", small("errors"))
	w.proxy.Inject(fixture.Fault{Path: "/blobs/", Status: 500, Body: "canary-secret"})
	spans := traced(t, func(ctx context.Context) {
		if _, err := w.Pull(ctx, PullRequest{Ref: pushed.Ref, Auth: &Auth{Username: "u", Password: "canary-secret"}}); err == nil {
			t.Fatal("no error")
		}
	})
	failed := 0
	for _, s := range spans {
		if s.Status.Description != "" {
			failed++
		}
		for _, text := range append([]string{s.Status.Description}, eventTexts(s)...) {
			if strings.Contains(text, "canary") {
				t.Errorf("%s: %s", s.Name, text)
			}
		}
	}
	if failed < 2 || len(find(spans, "image.config")) != 1 || find(spans, "image.config")[0].Status.Description == "" {
		t.Errorf("%d spans failed", failed)
	}
}

func eventTexts(s tracetest.SpanStub) []string {
	var all []string
	for _, e := range s.Events {
		for _, kv := range e.Attributes {
			all = append(all, kv.Value.Emit())
		}
	}
	return all
}

func TestRootfsSpansCoverTheMount(t *testing.T) {
	w := newWorld(t)
	img := w.pull(w.push("traced/image:4", small("rootfs")).Ref)
	spans := traced(t, func(ctx context.Context) {
		if _, err := w.CreateRootfs(ctx, RootfsRequest{ID: "traced", ImageID: img.ID}); err != nil {
			t.Fatal(err)
		}
	})
	if len(find(spans, "image.rootfs.create")) != 1 || len(find(spans, "image.rootfs.mount")) != 1 {
		t.Errorf("%d spans", len(spans))
	}
}
