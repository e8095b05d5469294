package observe

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// lives asks the daemon for the lives of a pod's containers.
func (n *node) lives(subject string) (lives []*waterfall.Trace) {
	n.Helper()
	body := harness.Must(n.Get("/v1/lives?" + url.Values{"subject": {subject}}.Encode()))(n)
	n.must(json.Unmarshal([]byte(body), &lives))
	return lives
}

// Each attempt's life arrives as a trace of one span, from the start of its program to
// its end, also when another daemon than the first sees the end; it leads to the
// request that started it and to the attempt before.
func TestTheCollectorReceivesEachContainersLifeAcrossARestart(t *testing.T) {
	s := startSink(t)
	c := startCollector(t, s)
	n := start(t, harness.Options{Env: c.env("grpc")})
	pod := n.Pod("lives")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	var ids, starts []string
	for attempt, command := range [][]string{{"/bin/sh", "-c", "exit 3"}, {"/bin/payload", "wait"}} {
		config := harness.Container(pod, "c", n.image, command...)
		config.Metadata.Attempt = uint32(attempt)
		id := harness.Must(n.cri.Create(n.ctx, sandbox, pod, config))(t)
		n.must(n.cri.Start(n.traced(), id))
		ids, starts = append(ids, id), append(starts, n.last)
		if attempt == 0 {
			harness.Must(n.cri.WaitExit(n.ctx, id))(t)
		}
	}
	harness.Must(n.cri.Exec(n.ctx, ids[1], 0, "/bin/false"))(t)
	started := harness.Must(n.cri.Status(n.ctx, ids[1]))(t).StartedAt
	if drawn := n.lives("test/lives"); len(drawn) != 2 || drawn[0].Spans[0].Unfinished || !drawn[1].Spans[0].Unfinished {
		t.Errorf("before the end: %d lives", len(drawn))
	}
	if _, err := n.Restart(n.ctx); err != nil {
		t.Fatal(err)
	}
	n.must(n.cri.Stop(n.ctx, ids[1], 30))
	n.must(n.cri.RemovePod(n.ctx, sandbox))

	for i, id := range ids {
		var span arrived
		eventually(t, fmt.Sprintf("arrival of the life of attempt %d", i), func() string {
			found := s.trace(id[:32])
			for _, span = range found {
			}
			if len(found) != 1 {
				return fmt.Sprintf("%d spans of trace %s", len(found), id[:32])
			}
			return ""
		})
		if span.GetName() != "container.life" || span.service != "vitrined" || text(span.GetAttributes(), "k8s.pod.name") != "lives" {
			t.Errorf("attempt %d: %s of %s, %v", i, span.GetName(), span.service, span.GetAttributes())
		}
		linked := map[string]string{}
		for _, l := range span.GetLinks() {
			linked[text(l.GetAttributes(), "vitrine.link.kind")] = hex.EncodeToString(l.GetTraceId())
		}
		if linked["start"] != starts[i] {
			t.Errorf("attempt %d is linked to %v, want the start %s", i, linked, starts[i])
		}
		if want := []string{"", ids[0][:32]}[i]; linked["previous"] != want {
			t.Errorf("attempt %d has %q before it, want %q", i, linked["previous"], want)
		}
		if i == 0 {
			if text(span.GetAttributes(), "error.type") != "error" || span.GetStatus().GetMessage() == "" {
				t.Errorf("attempt 0 ended with 3, and its life with %v", span.GetStatus())
			}
			continue
		}
		if int64(span.GetStartTimeUnixNano()) != started {
			t.Errorf("attempt 1 began at %d, want %d", span.GetStartTimeUnixNano(), started)
		}
		var events []string
		for _, e := range span.GetEvents() {
			events = append(events, e.GetName())
		}
		if !slices.Contains(events, "container.stop") {
			t.Errorf("attempt 1 has the events %v", events)
		}
	}
	eventually(t, "the lives of the pod that is gone", func() string {
		if drawn := n.lives("test/lives"); len(drawn) != 2 || drawn[0].Spans[0].Unfinished || drawn[1].Spans[0].Unfinished {
			return fmt.Sprintf("%d lives", len(drawn))
		}
		return ""
	})
	var found struct {
		Traces []waterfall.Summary `json:"traces"`
	}
	n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/traces?limit=1000"))(t)), &found))
	for _, f := range found.Traces {
		if slices.Contains(f.Roots, "container.life") {
			t.Errorf("trace %s, a life, stands among the calls", f.ID)
		}
	}
}
