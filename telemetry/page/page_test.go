package page_test

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/page"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

const evil = `<script>alert(1)</script>" onload="x`

var now = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func node() page.Node {
	return page.Node{Now: now,
		Status: api.Status{Version: "0.1", PID: 42, StartedAt: now.Add(-time.Hour), Network: evil, Operations: []api.Operation{
			{Subject: "shop/web", Name: "run_sandbox", Phase: "network", Since: now.Add(-time.Minute)}}},
		Pods:    []page.Pod{{Name: "shop/" + evil, State: "ready", Created: now, Containers: []page.Container{{Name: "app", State: "exited", Note: "137 OOMKilled"}}}},
		Pulls:   []api.Pull{{Ref: evil, Since: now, Bytes: 1 << 20, Total: 4 << 20}},
		Kills:   []api.OOM{{OOMKill: pod.OOMKill{At: now, Victim: pod.Culprit{Command: evil, ContainerPID: 7}, Level: "container", Limit: 24 << 20, Message: evil}, Pod: "shop/" + evil, Container: "app"}},
		Denials: ledgers(),
	}
}

func ledgers() []api.Denials {
	return []api.Denials{{Pod: "shop/" + evil, Container: evil, Lost: 2, Denials: []pod.Denial{{Layer: "seccomp", Count: 3, First: now, What: evil, Remedy: evil}}}}
}

func subject() page.Subject {
	trace := &waterfall.Trace{ID: strings.Repeat("1", 32), Spans: []waterfall.Span{
		{ID: "1", Name: "runtime.v1.RuntimeService/RunPodSandbox", Kind: "server", Start: now.UnixNano(), End: now.Add(4 * time.Second).UnixNano(), Error: true, Status: evil, Attributes: map[string]any{"rpc.response.status_code": "UNKNOWN"}},
		{ID: "2", ParentID: "1", Name: "network.cni", Start: now.UnixNano(), End: now.Add(3 * time.Second).UnixNano(), Error: true, Status: evil, Attributes: map[string]any{"vitrine.cni.plugin": evil}},
	}}
	life := &waterfall.Trace{ID: strings.Repeat("2", 32), Spans: []waterfall.Span{{ID: "3", Name: "container.life", Start: now.UnixNano(), End: now.Add(time.Hour).UnixNano(), Status: evil,
		Attributes: map[string]any{"k8s.container.name": evil}, Events: []waterfall.Event{
			{Name: "container.oom", Time: now.Add(time.Minute).UnixNano(), Attributes: map[string]any{"vitrine.message": evil}},
			{Name: "container.stop", Time: now.Add(time.Minute).UnixNano(), Attributes: map[string]any{evil: evil}}}}}}
	return page.Subject{Now: now, Traces: []*waterfall.Trace{trace}, Lives: []*waterfall.Trace{life}, Denials: ledgers(),
		Verdict: why.Judge(why.Evidence{Pod: "shop/" + evil, Now: now.Add(time.Minute), Traces: []*waterfall.Trace{trace}})}
}

// Pages are whole without scripts and inline styles, which the policy forbids, and
// texts from elsewhere stay texts.
func TestPagesKeepTheirPolicy(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"node":    func(w io.Writer) error { return page.WriteNode(w, node()) },
		"subject": func(w io.Writer) error { return page.WriteSubject(w, subject()) },
		"empty":   func(w io.Writer) error { return page.WriteNode(w, page.Node{Now: now}) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		balanced(t, name, b.String())
	}
}

// balanced reads the page by XML's rules, loosened for HTML: every element is closed,
// none is a script, and no attribute holds one.
func balanced(t *testing.T, name, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "<!DOCTYPE html>")))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link"}, xml.HTMLEntity
	depth := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch element := token.(type) {
		case xml.StartElement:
			depth++
			if element.Name.Local == "script" || element.Name.Local == "style" {
				t.Errorf("%s holds an element %s", name, element.Name.Local)
			}
			for _, a := range element.Attr {
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "javascript:") {
					t.Errorf("%s: %s has the attribute %s=%q", name, element.Name.Local, a.Name.Local, a.Value)
				}
			}
		case xml.EndElement:
			depth--
		}
	}
	if depth != 0 {
		t.Errorf("%s: %d elements are open at the end", name, depth)
	}
}

// A screen reader finds its way by the page's language, title, landmarks, headings,
// and the headers and caption of every table.
func TestPagesSayWhatTheirPartsAre(t *testing.T) {
	var b bytes.Buffer
	if err := page.WriteNode(&b, node()); err != nil {
		t.Fatal(err)
	}
	if err := page.WriteSubject(&b, subject()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	count := func(part string) int { return strings.Count(text, part) }
	tables := count("<table")
	if tables < 9 || count("<caption>") != tables || count("<thead>") != tables || count("<th>") != 0 {
		t.Errorf("%d tables, %d captions, %d heads, %d headers without a scope", tables, count("<caption>"), count("<thead>"), count("<th>"))
	}
	for _, want := range []string{`<html lang="en">`, "<title>", "<main id=", `href="#main"`, "<h1>", "aria-label"} {
		if count(want) < 2 {
			t.Errorf("not on both pages: %s", want)
		}
	}
	if count("<svg") != count(`aria-hidden="true"`) || count("<svg") == 0 {
		t.Error("a bar without words is read out, or there is none")
	}
}
