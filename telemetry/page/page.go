// Package page draws what the node does as HTML for a person with nothing but a
// browser: pods, operations, pulls, the verdict on a pod and the waterfall of its calls.
//
// It is pure: values in, a page out. Pages hold no script; they are tables with
// captions and headers, so that a keyboard and a screen reader find their way, and
// every text from images, registries and pods is escaped by html/template.
package page

import (
	"cmp"
	_ "embed" // the style sheet
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

// Style is the content of style.css, to which pages link.
//
//go:embed style.css
var Style []byte

// Policy is the Content-Security-Policy under which pages are whole.
const Policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Node is what the first page shows.
type Node struct {
	Now    time.Time
	Status api.Status
	Pods   []Pod
	Pulls  []api.Pull
	// Kills are OOM kills, the latest first.
	Kills []api.OOM
	// Denials are the ledgers of the containers that were denied something.
	Denials []api.Denials
}

// Pod is one line of the table of pods.
type Pod struct {
	Name, State string // namespace/name
	Created     time.Time
	IPs         []string
	Containers  []Container
}

// Container is one container of a pod. Note is how it ended; empty for one that runs.
type Container struct{ Name, State, Note string }

// Subject is the page of one pod or container.
type Subject struct {
	Now     time.Time
	Verdict why.Verdict
	// Traces are its calls, the oldest first.
	Traces []*waterfall.Trace
	// Lives are its containers', the oldest first, each a trace of one span.
	Lives []*waterfall.Trace
	// Denials are the ledgers of its containers.
	Denials []api.Denials
}

// WriteNode writes the first page.
func WriteNode(w io.Writer, n Node) error { return pages.ExecuteTemplate(w, "node", n) }

// WriteSubject writes the page of one pod.
func WriteSubject(w io.Writer, s Subject) error {
	view := struct {
		Subject
		Calls []callView
		Lived []lifeView
	}{Subject: s}
	for _, t := range s.Lives {
		for _, span := range t.Spans {
			view.Lived = append(view.Lived, lifeOf(t, span))
		}
	}
	for _, t := range s.Traces {
		for _, root := range t.Roots() {
			view.Calls = append(view.Calls, viewOf(t, root))
		}
	}
	return pages.ExecuteTemplate(w, "subject", view)
}

// lifeView is one container's life as a table of what befell it.
type lifeView struct {
	Container, Trace, Started, Took, End string
	Events                               []eventView
}

type eventView struct{ After, Name, Text string }

// maxEvents bounds the rows of one life.
const maxEvents = 60

func lifeOf(t *waterfall.Trace, s waterfall.Span) lifeView {
	v := lifeView{Container: s.Text("k8s.container.name"), Trace: t.ID, Started: time.Unix(0, s.Start).UTC().Format("2006-01-02 15:04:05.000"), Took: waterfall.Duration(s.Duration())}
	switch {
	case s.Unfinished:
		v.End = "goes on"
	case s.Status != "":
		v.End = s.Status
	default:
		v.End = s.Text("vitrine.exit.reason")
	}
	for _, e := range s.Events[:min(len(s.Events), maxEvents)] {
		text, _ := e.Attributes["vitrine.message"].(string)
		if text == "" {
			var parts []string
			for key, value := range e.Attributes {
				parts = append(parts, fmt.Sprintf("%s %v", strings.TrimPrefix(key, "vitrine."), value))
			}
			slices.Sort(parts)
			text = strings.Join(parts, ", ")
		}
		v.Events = append(v.Events, eventView{waterfall.Duration(time.Duration(e.Time - s.Start)), strings.TrimPrefix(e.Name, "container."), text})
	}
	return v
}

// callView is one call as a table.
type callView struct {
	Name, Trace, Started, Took string
	Steps                      []stepView
}

// stepView is one row: the bar lies at Left and is Width wide, in thousandths of the call.
type stepView struct {
	Name, Took, Note string
	Depth            int
	Left, Width      int64
	Failed           bool
}

// maxSteps bounds the rows of one call.
const maxSteps = 60

func viewOf(t *waterfall.Trace, root waterfall.Span) callView {
	kept := waterfall.Key(t, root.ID, maxSteps)
	v := callView{Name: waterfall.ShortName(root.Name), Trace: t.ID, Started: time.Unix(0, root.Start).UTC().Format("2006-01-02 15:04:05.000"), Took: waterfall.Duration(root.Duration())}
	total := max(int64(root.Duration()), 1)
	var add func(waterfall.Span, int)
	add = func(s waterfall.Span, depth int) {
		left := min(max((s.Start-root.Start)*1000/total, 0), 999)
		row := stepView{Name: waterfall.ShortName(s.Name), Took: waterfall.Duration(s.Duration()), Depth: min(depth, 6), Left: left,
			Width: min(max(int64(s.Duration())*1000/total, 2), 1000-left), Failed: s.Error, Note: s.Status}
		if s.Unfinished {
			row.Note = strings.TrimSpace("going on " + row.Note)
		}
		if plugin := s.Text("vitrine.cni.plugin"); plugin != "" {
			row.Name += " " + plugin + " " + s.Text("vitrine.cni.command")
		}
		v.Steps = append(v.Steps, row)
		if depth < 64 {
			for _, child := range kept.Children(s.ID) {
				add(child, depth+1)
			}
		}
	}
	add(root, 0)
	return v
}

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"since": func(now, then time.Time) string {
		if then.IsZero() {
			return ""
		}
		return waterfall.Duration(now.Sub(then))
	},
	"join":    func(list []string) string { return strings.Join(list, " ") },
	"percent": func(f float64) string { return fmt.Sprintf("%.0f %%", f*100) },
	"began":   func(o api.Operation) time.Time { return cmpTime(o.Began, o.Since) },
	"size": func(n uint64) string {
		if n == 0 {
			return "none"
		}
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	},
	"mib": func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) },
	"clock": func(t time.Time) string {
		if t.Year() < 1971 {
			return ""
		}
		return t.UTC().Format("15:04:05.000")
	},
	// denied counts the lines of all ledgers.
	"denied": func(all []api.Denials) (n int) {
		for _, d := range all {
			n += len(d.Denials)
		}
		return n
	},
	"or": func(a, b string) string { return cmp.Or(a, b) },
}).Parse(source))

func cmpTime(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

//go:embed page.html
var source string
