package waterfall

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options of Render. The zero value draws 100 columns without colour.
type Options struct {
	// Width of the drawing in columns; 0 means 100, less than 60 is taken as 60.
	Width int
	// Color switches ANSI colours on: failures red, other processes cyan.
	Color bool
	// Events shows span events as lines of their own; failures are always shown.
	Events bool
}

const (
	red   = "\x1b[31m"
	cyan  = "\x1b[36m"
	faint = "\x1b[2m"
	plain = "\x1b[0m"
)

// Render draws traces as waterfalls below each other, in order of their start, on
// one common time axis. It sorts the spans of the traces it is given.
func Render(w io.Writer, traces []*Trace, o Options) error {
	drawn := make([]*Trace, 0, len(traces))
	for _, t := range traces {
		if len(t.Spans) > 0 {
			t.Sort()
			drawn = append(drawn, t)
		}
	}
	slices.SortStableFunc(drawn, func(a, b *Trace) int {
		return cmp.Compare(a.Spans[0].Start, b.Spans[0].Start)
	})
	width := max(60, cmp.Or(o.Width, 100))
	p := &painter{w: bufio.NewWriter(w), Options: o}
	p.name = p.nameColumns(drawn, width)
	p.axis = newAxis(drawn, max(10, width-p.name-2*(timeColumns+1)-1))
	if len(drawn) > 0 {
		p.zero = drawn[0].Spans[0].Start
		fmt.Fprintf(p.w, "%s %*s %*s %s\n", fit("", p.name), timeColumns, "start", timeColumns, "time", p.axis.ruler())
	}
	for _, t := range drawn {
		p.trace(t)
	}
	return p.w.Flush()
}

// timeColumns is the width of the two columns of durations.
const timeColumns = 8

type painter struct {
	Options
	w    *bufio.Writer
	axis *axis
	// zero is the start of the axis, first that of the trace being drawn, to which
	// the column of starts is relative.
	zero, first int64
	name        int
	// containers are the names of the trace being drawn.
	containers map[string]string
}

// nameColumns is as much as the longest name needs, at most 45 % of the width.
func (p *painter) nameColumns(traces []*Trace, width int) int {
	longest := 16
	for _, t := range traces {
		containers := names(t)
		p.walk(t, func(s Span, parentService, tree, _ string) {
			longest = max(longest, len([]rune(tree))+len([]rune(label(s, parentService, containers)))+2)
		})
	}
	return min(longest, width*45/100)
}

func (p *painter) trace(t *Trace) {
	start, end := t.Bounds()
	subject := ""
	if pods := Summarize(t).Pods; len(pods) == 1 {
		subject = "  " + printable(pods[0])
	}
	fmt.Fprintf(p.w, "%s\n", p.paint(faint, fmt.Sprintf("── %s  %s  +%s%s  %s in %s%s",
		t.ID, time.Unix(0, start).UTC().Format("2006-01-02 15:04:05.000Z"), Duration(duration(start-p.zero)), subject,
		spans(len(t.Spans)), Duration(duration(end-start)), p.notes(t))))
	p.first, p.containers = start, names(t)
	p.walk(t, p.line)
}

func spans(n int) string {
	if n == 1 {
		return "1 span"
	}
	return fmt.Sprintf("%d spans", n)
}

// notes says what is worth knowing about the trace as a whole.
func (p *painter) notes(t *Trace) string {
	var notes string
	if roots := t.Roots(); len(roots) == 1 && len(t.Children(roots[0].ID)) > 0 {
		notes = fmt.Sprintf(", steps cover %.1f%%", 100*Coverage(t, roots[0].ID))
	}
	if t.Dropped > 0 {
		notes += ", " + spans(t.Dropped) + " not kept"
	}
	return notes
}

// walk visits every span once, parents before children, with the two pieces of the
// tree's drawing: for the span's own line and for what hangs below it. Spans in a
// circle of parents, which only a broken reporter makes, come last as roots.
func (p *painter) walk(t *Trace, visit func(s Span, parentService, tree, below string)) {
	seen := make(map[string]bool, len(t.Spans))
	children := make(map[string][]Span, len(t.Spans))
	for _, s := range t.Spans {
		children[s.ParentID] = append(children[s.ParentID], s)
	}
	var down func(s Span, parentService, tree, below string)
	down = func(s Span, parentService, tree, below string) {
		if seen[s.ID] {
			return
		}
		seen[s.ID] = true
		visit(s, parentService, tree, below)
		var kids []Span
		for _, c := range children[s.ID] {
			if !seen[c.ID] {
				kids = append(kids, c)
			}
		}
		for i, c := range kids {
			if i == len(kids)-1 {
				down(c, s.Service, below+"└─", below+"  ")
			} else {
				down(c, s.Service, below+"├─", below+"│ ")
			}
		}
	}
	for _, s := range t.Roots() {
		down(s, "", "", "")
	}
	for _, s := range t.Spans {
		down(s, "", "", "")
	}
}

// line draws one span, and below it why it failed, its events and its links.
func (p *painter) line(s Span, parentService, tree, below string) {
	mark, color := "", ""
	switch {
	case failure(s) != "":
		mark, color = "✗ ", red
	case parentService != "" && s.Service != parentService:
		color = cyan
	}
	time := Duration(s.Duration())
	if s.Unfinished {
		time += "…"
	}
	fmt.Fprintf(p.w, "%s %*s %*s %s\n",
		p.paint(color, fit(tree+mark+label(s, parentService, p.containers), p.name)),
		timeColumns, "+"+Duration(duration(s.Start-p.first)), timeColumns, time,
		p.paint(color, p.axis.bar(s.Start, s.End)))
	indent := below + "  "
	if why := failure(s); why != "" {
		fmt.Fprintf(p.w, "%s%s\n", indent, p.paint(color, printable(why)))
	}
	for _, l := range s.Links {
		kind := l.Kind
		if kind != "" {
			kind += ": "
		}
		fmt.Fprintf(p.w, "%s↳ %ssee trace %s\n", indent, printable(kind), printable(l.TraceID))
	}
	for _, e := range s.Events {
		if p.Events && e.Name != "exception" {
			fmt.Fprintf(p.w, "%s◆ +%s %s%s\n", indent, Duration(duration(e.Time-p.first)), printable(e.Name), attributes(e.Attributes))
		}
	}
}

func (p *painter) paint(color, text string) string {
	if !p.Color || color == "" {
		return text
	}
	return color + text + plain
}

func attributes(m map[string]any) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		value := fmt.Sprint(m[k])
		if f, ok := m[k].(float64); ok { // decoded from JSON: a count stays readable
			value = strconv.FormatFloat(f, 'f', -1, 64)
		}
		fmt.Fprintf(&b, " %s=%s", printable(k), printable(value))
	}
	return b.String()
}
