package telemetry

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func TestPackedSpansComeBackAsTheyWere(t *testing.T) {
	spans := []waterfall.Span{
		{ID: "0123456789abcdef", ParentID: "fedcba9876543210", Name: "network.cni", Kind: "client", Service: "vitrined", Start: 1_700_000_000_000_000_000, End: 1_700_000_000_000_000_777,
			Error: true, Status: "plugin said: no", Attributes: map[string]any{
				"text": "words", "empty": "", "odd": "abc", "hex": "00ff", "upper": "00FF", "id": strings.Repeat("0a", 32), "yes": true, "no": false,
				"int": int64(math.MinInt64), "float": -0.5, "texts": []string{"a", ""}, "bools": []bool{true, false}, "ints": []int64{-1, 1 << 40},
				"floats": []float64{1e300}, "list": []any{"x", int64(3), true, 2.5}, "none": []string{}},
			Events: []waterfall.Event{{Name: "oom", Time: 5, Attributes: map[string]any{"k": "v"}}, {Name: "bare", Time: 1_700_000_000_000_000_001}},
			Links:  []waterfall.Link{{TraceID: strings.Repeat("ab", 16), SpanID: strings.Repeat("cd", 8)}, {}}},
		{ID: "1", Name: strings.Repeat("a name that is too long for the table", 4), Unfinished: true, Start: 9, End: 3},
		{},
	}
	var w words
	var b []byte
	for i := range spans {
		b = w.pack(b, &spans[i])
	}
	if got := w.unpack(b, len(spans)); !reflect.DeepEqual(got, spans) {
		t.Errorf("\n%+v\nbecame\n%+v", spans, got)
	}
	for id, want := range map[string]bool{"0123456789abcdef": true, "1": true, "": true, "0123456789abcdee": false, "0123456789": false, "12": false} {
		if w.packedHas(b, id) != want {
			t.Errorf("id %q is there: %v", id, !want)
		}
	}
}

// A table that is full costs bytes, not spans.
func TestWordsBeyondTheTableAreKept(t *testing.T) {
	var w words
	var b []byte
	const n = maxWords + 100
	for i := range n {
		b = w.pack(b, &waterfall.Span{ID: "1", Name: fmt.Sprint("name ", i)})
	}
	for i, s := range w.unpack(b, n) {
		if s.Name != fmt.Sprint("name ", i) {
			t.Fatalf("%d is %q", i, s.Name)
		}
	}
	if len(w.list) != maxWords {
		t.Errorf("%d words in the table", len(w.list))
	}
}

// Whatever a monitor reports comes back: texts of any bytes, in any place.
func FuzzPackedText(f *testing.F) {
	f.Add("0123456789abcdef", "name", "ABCDEF")
	f.Add("", "\x00\xff", "0a")
	f.Fuzz(func(t *testing.T, id, name, value string) {
		var w words
		s := waterfall.Span{ID: id, Name: name, Status: value, Attributes: map[string]any{name: value, "list": []string{id, value}}, Links: []waterfall.Link{{TraceID: value, SpanID: id}}}
		if got := w.unpack(w.pack(nil, &s), 1); len(got) != 1 || !reflect.DeepEqual(got[0], s) {
			t.Errorf("%+v became %+v", s, got)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	s := waterfall.Span{ID: "0123456789abcdef", ParentID: "fedcba9876543210", Name: "network.cni", Service: "vitrined", Start: 1_700_000_000_000_000_000, End: 1_700_000_000_000_000_777,
		Attributes: map[string]any{"k8s.pod.name": "web-0", "k8s.namespace.name": "shop", "vitrine.cni.plugin": "bridge", "container.id": strings.Repeat("0a", 32)}}
	var w words
	size := len(w.pack(nil, &s))
	b.ReportAllocs()
	for b.Loop() {
		w.pack(nil, &s)
	}
	b.ReportMetric(float64(size), "bytes/span")
}
