package waterfall_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func TestKeyKeepsWhatExplainsASpan(t *testing.T) {
	span := func(id, parent string, from, to int64, failed bool) waterfall.Span {
		return waterfall.Span{ID: id, ParentID: parent, Name: id, Start: from, End: to, Error: failed}
	}
	trace := &waterfall.Trace{ID: "t", Spans: []waterfall.Span{
		span("call", "kubelet", 0, 1000, true), span("slow", "call", 0, 900, false), span("quick", "call", 900, 910, false),
		span("nested", "quick", 900, 901, true), span("other", "kubelet", 0, 5000, false),
	}}
	names := func(kept *waterfall.Trace) (list []string) {
		for _, s := range kept.Spans {
			list = append(list, s.Name)
		}
		return list
	}
	kept := waterfall.Key(trace, "call", 10)
	if got := strings.Join(names(kept), " "); got != "call slow quick nested" || kept.Dropped != 0 {
		t.Errorf("%s, %d dropped", got, kept.Dropped)
	}
	if got := strings.Join(names(waterfall.Key(trace, "call", 3)), " "); got != "call quick nested" {
		t.Errorf("with little room the failure wins: %s", got)
	}
	if kept := waterfall.Key(trace, "none", 10); len(kept.Spans) != 0 {
		t.Errorf("%v", kept)
	}
	loop := &waterfall.Trace{ID: "t", Spans: []waterfall.Span{span("a", "b", 0, 10, false), span("b", "a", 0, 10, false)}}
	if got := fmt.Sprint(names(waterfall.Key(loop, "a", 10))); got != "[a b]" {
		t.Errorf("a cycle: %s", got)
	}
}
