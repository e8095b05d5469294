package waterfall

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Duration formats to three significant digits: 412µs, 1.23ms, 12.3s, 4m05s.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return digits(float64(d)/float64(time.Millisecond)) + "ms"
	case d < time.Minute:
		return digits(d.Seconds()) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

func digits(v float64) string {
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func duration(ns int64) time.Duration { return time.Duration(ns) }

// ShortName is a span's name without the package of a gRPC service:
// runtime.v1.RuntimeService/RunPodSandbox becomes RunPodSandbox.
func ShortName(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[i+1:]
	}
	return name
}

// printable makes text from images, plugins and registries safe for a terminal:
// line breaks become blanks, control characters vanish.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, text)
}

// fit shortens text to a number of columns, or fills it up with blanks.
func fit(text string, columns int) string {
	runes := []rune(text)
	if len(runes) > columns {
		return string(runes[:max(0, columns-1)]) + "…"
	}
	return text + strings.Repeat(" ", columns-len(runes))
}

// detailKeys are attributes that tell spans of one name apart, in the order shown.
var detailKeys = []string{
	"vitrine.cni.plugin", "vitrine.cni.command", "vitrine.hook.name", "vitrine.hook.point",
	"vitrine.image.layer.digest", "vitrine.step",
}

// names are the containers' names by their ids, as the trace tells them: a call's own
// span often has the id alone.
func names(t *Trace) map[string]string {
	m := map[string]string{}
	for _, s := range t.Spans {
		if id, name := s.Text("container.id"), s.Text("k8s.container.name"); id != "" && name != "" {
			m[id] = name
		}
	}
	return m
}

// label names a span: its name, what tells it from its siblings, its process where
// that is not its parent's.
func label(s Span, parentService string, containers map[string]string) string {
	var b strings.Builder
	b.WriteString(ShortName(s.Name))
	if s.Kind == "server" || parentService == "" {
		subject := cmp.Or(s.Text("k8s.container.name"), containers[s.Text("container.id")])
		if subject == "" && strings.HasSuffix(s.Name, "Image") {
			subject = s.Text("container.image.name")
		}
		if subject != "" {
			b.WriteString(" " + shortValue(subject))
		}
	}
	for _, key := range detailKeys {
		if value := s.Text(key); value != "" {
			b.WriteString(" " + shortValue(value))
		}
	}
	if s.Service != "" && s.Service != parentService && parentService != "" {
		b.WriteString(" [" + s.Service + "]")
	}
	return printable(b.String())
}

// shortValue keeps the end of a path and the beginning of a digest.
func shortValue(v string) string {
	if _, hex, found := strings.Cut(v, "sha256:"); found && len(hex) > 12 {
		return hex[:12]
	}
	if len(v) == 64 && strings.Trim(v, "0123456789abcdef") == "" {
		return v[:12]
	}
	if strings.HasPrefix(v, "/") {
		return v[strings.LastIndexByte(v, '/')+1:]
	}
	return v
}
