package waterfall

import "slices"

// Summary is a trace in one line: what GET /v1/traces lists.
type Summary struct {
	ID string `json:"traceId"`
	// Roots are the names of the calls or other work that the trace consists of.
	Roots []string `json:"roots"`
	// Start and End are in nanoseconds since 1970.
	Start int64 `json:"startUnixNano"`
	End   int64 `json:"endUnixNano"`
	Spans int   `json:"spans"`
	// Error is why the first failed root failed; Unfinished: something is going on.
	Error      string `json:"error,omitempty"`
	Unfinished bool   `json:"unfinished,omitempty"`
	// Pods are namespace/name, Containers names, of all spans.
	Pods       []string `json:"pods,omitempty"`
	Containers []string `json:"containers,omitempty"`
}

// Summarize makes the line.
func Summarize(t *Trace) Summary {
	s := Summary{ID: t.ID, Spans: len(t.Spans)}
	s.Start, s.End = t.Bounds()
	for _, root := range t.Roots() {
		s.Roots = append(s.Roots, ShortName(root.Name))
		if s.Error == "" {
			s.Error = failure(root)
		}
	}
	add := func(list *[]string, text string) {
		if text != "" && !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for _, span := range t.Spans {
		s.Unfinished = s.Unfinished || span.Unfinished
		add(&s.Containers, span.Text("k8s.container.name"))
		if name := span.Text("k8s.pod.name"); name != "" {
			add(&s.Pods, span.Text("k8s.namespace.name")+"/"+name)
		}
	}
	return s
}

// failure says why a span failed, empty when it did not.
func failure(s Span) string {
	code := s.Text("rpc.response.status_code")
	switch {
	case s.Error && s.Status != "":
		return s.Status
	case s.Error:
		return "failed"
	case code != "" && code != "OK" && s.Text("exception.message") != "":
		return code + ": " + s.Text("exception.message")
	case code != "OK":
		return code
	}
	return ""
}
