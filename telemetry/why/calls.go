package why

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// slow is from when on the time of a call is worth an explanation.
const slow = time.Second

// call is one call about the pod: a root of a trace.
type call struct {
	trace     *waterfall.Trace
	root      waterfall.Span
	method    string
	container string
	failed    bool
}

// passive are calls whose length says nothing: they last as long as their caller wants.
var passive = []string{"ExecSync", "Exec", "Attach", "PortForward", "GetContainerEvents"}

// gather lists the calls in the order of their start.
func gather(e *Evidence) []call {
	var all []call
	for _, t := range e.Traces {
		known := map[string]string{}
		for _, s := range t.Spans {
			if id, name := s.Text("container.id"), s.Text("k8s.container.name"); id != "" && name != "" {
				known[id] = name
			}
		}
		for _, c := range e.Containers {
			known[c.ID] = c.Name
		}
		for _, root := range t.Spans {
			if root.Kind != "server" {
				continue
			}
			c := call{trace: t, root: root, method: waterfall.ShortName(root.Name)}
			c.container = cmp.Or(root.Text("k8s.container.name"), known[root.Text("container.id")])
			code := root.Text("rpc.response.status_code")
			c.failed = root.Error || code != "" && code != "OK"
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b call) int { return cmp.Compare(a.root.Start, b.root.Start) })
	return all
}

// calls finds what failed and what took the time.
func calls(e *Evidence) []Fact {
	all := gather(e)
	facts := foreign(e)
	for i, c := range all {
		if c.failed && c.method != "ExecSync" { // commands are counted elsewhere
			recovered := slices.ContainsFunc(all[i+1:], func(later call) bool {
				return later.method == c.method && later.container == c.container && !later.failed && !later.root.Unfinished
			})
			facts = append(facts, c.failure(recovered))
		}
		if !slices.Contains(passive, c.method) && c.root.Duration() >= slow {
			facts = append(facts, c.slowness(e))
		}
	}
	return facts
}

// foreign finds containers whose image was pulled for another kind of node: what it holds
// cannot be executed, except where something translates it.
func foreign(e *Evidence) (facts []Fact) {
	for _, t := range e.Traces {
		for _, s := range t.Spans {
			platform := s.Text("vitrine.image.foreign")
			if platform == "" {
				continue
			}
			for _, c := range e.Containers {
				if c.Exit == nil || c.Image == "" || c.Image != s.Text("vitrine.image.ref") && c.Image != s.Text("container.image.id") {
					continue
				}
				facts = append(facts, Fact{Time: time.Unix(0, s.End), Source: "trace", Container: c.Name, Cause: "process.format", Weight: 0.14,
					Text: fmt.Sprintf("the image of %s was pulled for %s, which is not this node's platform", c.Name, platform)})
			}
		}
	}
	return facts
}

// failure blames the innermost step that failed.
func (c call) failure(recovered bool) Fact {
	at, class, endpoint := c.root, "", c.root.Text("vitrine.image.endpoint")
	for {
		// A room's own word says more than one that all rooms share, however deep that is.
		if t := at.Text("error.type"); t != "" && t == strings.ToLower(t) && (class == "" || shared[class] || !shared[t]) {
			class = t
		}
		endpoint = cmp.Or(at.Text("vitrine.image.endpoint"), endpoint)
		var inner []waterfall.Span
		for _, s := range c.trace.Children(at.ID) {
			if s.Error {
				inner = append(inner, s)
			}
		}
		if len(inner) == 0 {
			break
		}
		// Of several that failed the one with a word of its own is the cause; the others
		// were canceled for it. What the step did not pass on, it has tried otherwise.
		slices.SortStableFunc(inner, func(a, b waterfall.Span) int {
			passed := func(s waterfall.Span) int {
				if at.Status == "" || strings.Contains(at.Status, s.Status) || strings.Contains(s.Status, at.Status) {
					return 0
				}
				return 1
			}
			canceled := func(s waterfall.Span) int {
				if s.Text("error.type") == "cancel" || strings.Contains(s.Status, "context canceled") {
					return 1
				}
				return 0
			}
			return cmp.Or(canceled(a)-canceled(b), passed(a)-passed(b), cmp.Compare(a.End, b.End))
		})
		at = inner[0]
	}
	text := cmp.Or(at.Status, c.root.Status, c.root.Text("exception.message"), "no reason given")
	name, words := classify(at.Name, class, text)
	_, doing := area(at.Name)
	what := subjectOf(at)
	f := Fact{
		Time: time.Unix(0, at.End), Source: "trace", Container: c.container, Cause: name, Weight: 0.9,
		Text: fmt.Sprintf("%s failed in %s%s after %s: %s", c.method, at.Name, what, waterfall.Duration(at.Duration()), text),
	}
	f.sentence = fmt.Sprintf("%s failed: %s%s: %s (%s)", c.method, doing, what, words, text)
	if endpoint != "" {
		f.Text += ", from " + endpoint
		f.sentence += ", from " + endpoint
	}
	switch {
	case recovered:
		f.Weight = 0.35
		f.Text += "; a later attempt succeeded"
		f.sentence += "; a later attempt succeeded"
	case c.root.Text("rpc.response.status_code") == "CANCELLED":
		f.Weight = 0.5
	}
	return f
}

// slowness blames the innermost step that had half of the time of the one around it.
func (c call) slowness(e *Evidence) Fact {
	at := c.root
	for {
		children := c.trace.Children(at.ID)
		if len(children) == 0 {
			break
		}
		longest := slices.MaxFunc(children, func(a, b waterfall.Span) int { return cmp.Compare(a.Duration(), b.Duration()) })
		if longest.Duration() < at.Duration()/2 {
			break
		}
		at = longest
	}
	where, doing := area(at.Name)
	if at.ID == c.root.ID && c.method == "StopContainer" {
		where, doing = "stop", "waiting for the container to end"
	}
	share := float64(at.Duration()) / float64(max(c.root.Duration(), 1)) * 100
	took := waterfall.Duration(at.Duration())
	f := Fact{Time: time.Unix(0, at.Start), Source: "trace", Container: c.container, Cause: where + ".slow"}
	f.Weight = min(0.7, 0.3+0.12*math.Log2(c.root.Duration().Seconds()))
	verb := "took"
	if c.root.Unfinished {
		f.Cause, verb = where+".hanging", "has been going on for"
		f.Weight = min(0.95, 0.6+0.1*math.Log2(c.root.Duration().Seconds()))
	}
	extra := ""
	if n := number(at.Attributes["vitrine.image.bytes"]); n > 0 && at.Duration() > 0 {
		extra = fmt.Sprintf(", %s at %s/s", bytes(n), bytes(n/at.Duration().Seconds()))
	}
	if endpoint := at.Text("vitrine.image.endpoint"); endpoint != "" {
		extra += " from " + endpoint
	}
	f.Text = fmt.Sprintf("%s %s %s, %.0f %% of %s's %s%s", at.Name+subjectOf(at), verb, took, share, c.method, waterfall.Duration(c.root.Duration()), extra)
	how := "is slow"
	if c.root.Unfinished {
		how = "does not end"
	}
	f.sentence = fmt.Sprintf("%s %s: %s%s %s %s, %.0f %% of the call's time%s", c.method, how, doing, subjectOf(at), verb, took, share, extra)
	return f
}

// subjectOf names what a step worked on, with a blank before it.
func subjectOf(s waterfall.Span) string {
	text := ""
	for _, key := range []string{"vitrine.cni.plugin", "vitrine.cni.command", "vitrine.hook.name", "vitrine.hook.point", "vitrine.image.layer.digest"} {
		if v := s.Text(key); v != "" && !strings.HasSuffix(s.Name, "."+v) {
			if _, hex, found := strings.Cut(v, "sha256:"); found && len(hex) > 12 {
				v = hex[:12]
			}
			text += " " + v
		}
	}
	if hook, found := strings.CutPrefix(s.Name, "oci.hook."); found && text == "" {
		event, program, _ := strings.Cut(hook, ".")
		text = fmt.Sprintf(" %s (%s)", program, event)
	}
	return text
}

// number takes an attribute that may come from JSON.
func number(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

func bytes(n float64) string {
	for _, u := range []struct {
		unit float64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.unit {
			return fmt.Sprintf("%.3g %s", n/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", n)
}
