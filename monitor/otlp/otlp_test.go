package otlp

import (
	"fmt"
	"strings"
	"testing"

	collectlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collecttrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

var (
	resource = &Resource{Service: "vitrine-monitor", Attributes: []wire.Attribute{{Key: "container.id", Value: "abc"}, {Key: "empty", Value: ""}}}
	parent   = [8]byte{1, 2, 3}
)

func attributes(kvs []*common.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range kvs {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.Key] = v.IntValue
		}
	}
	return m
}

func TestSpansAreReadByThePublishedTypes(t *testing.T) {
	spans := []Span{
		{Trace: [16]byte{9}, ID: [8]byte{1}, Parent: parent, Name: "monitor.create", Start: 1, End: 1 << 61, Ints: []Int{{"pid", 0}, {"n", -5}}},
		{Trace: [16]byte{9}, ID: [8]byte{2}, Name: "libct.rootfs", Error: "mount: no such file", Attributes: []wire.Attribute{{Key: "k", Value: "v"}}},
	}
	raw := AppendTraces(nil, resource, spans[:1])
	raw = AppendTraces(raw, resource, spans[1:]) // one behind the other
	var got collecttrace.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.ResourceSpans) != 2 || len(got.ProtoReflect().GetUnknown()) != 0 {
		t.Fatalf("got %v", &got)
	}
	rs := got.ResourceSpans[0]
	if a := attributes(rs.Resource.Attributes); a["service.name"] != "vitrine-monitor" || a["container.id"] != "abc" || a["empty"] != "" || len(a) != 3 {
		t.Errorf("resource %v", a)
	}
	s := rs.ScopeSpans[0].Spans[0]
	if rs.ScopeSpans[0].Scope.Name != scope || s.Name != "monitor.create" || s.StartTimeUnixNano != 1 || s.EndTimeUnixNano != 1<<61 ||
		[16]byte(s.TraceId) != spans[0].Trace || [8]byte(s.SpanId) != spans[0].ID || [8]byte(s.ParentSpanId) != parent ||
		s.Kind != trace.Span_SPAN_KIND_INTERNAL || s.Status != nil {
		t.Errorf("span %v", s)
	}
	if a := attributes(s.Attributes); a["pid"] != int64(0) || a["n"] != int64(-5) {
		t.Errorf("attributes %v", a)
	}
	f := got.ResourceSpans[1].ScopeSpans[0].Spans[0]
	if f.Status.Code != trace.Status_STATUS_CODE_ERROR || f.Status.Message != "mount: no such file" || f.ParentSpanId != nil || attributes(f.Attributes)["k"] != "v" ||
		attributes(f.Attributes)["error.type"] != "_OTHER" {
		t.Errorf("failed span %v", f)
	}
}

func TestLogRecordsAreReadByThePublishedTypes(t *testing.T) {
	var batch LogBatch
	batch.Use(make([]byte, 0, 4096))
	for _, r := range []LogRecord{{Time: 5, Observed: 6, Severity: 9, SeverityText: "INFO", Body: "line", Trace: [16]byte{1}, Span: [8]byte{2}}, {}} {
		if !batch.Add(resource, &r) {
			t.Fatal("no room")
		}
	}
	var got collectlogs.ExportLogsServiceRequest
	if err := proto.Unmarshal(batch.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	r := got.ResourceLogs[0].ScopeLogs[0].LogRecords
	if len(r) != 2 || r[0].Body.GetStringValue() != "line" || r[0].TimeUnixNano != 5 || r[0].ObservedTimeUnixNano != 6 ||
		r[0].SeverityNumber != 9 || r[0].SeverityText != "INFO" || r[0].TraceId[0] != 1 || r[0].SpanId[0] != 2 {
		t.Errorf("records %v", r)
	}
}

func TestTraceparentsAreReadOrRefusedAsTheStandardSays(t *testing.T) {
	good := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tr, sp, sampled, ok := ParseTraceparent(good)
	if got := fmt.Sprintf("00-%x-%x-01", tr, sp); !ok || !sampled || got != good {
		t.Errorf("got %s %v %v", got, sampled, ok)
	}
	if _, _, sampled, ok := ParseTraceparent(good[:53] + "00"); !ok || sampled {
		t.Error("unsampled")
	}
	if _, _, _, ok := ParseTraceparent("01" + good[2:] + "-more"); !ok {
		t.Error("a later version is read as far as it is known")
	}
	for _, bad := range []string{"", good[:54], good + "-x", "ff" + good[2:], "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"} {
		if _, _, _, ok := ParseTraceparent(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzSpan(f *testing.F) {
	f.Add("\xc5", "\x91", "\xff", "\xfe\n", int64(1), int64(2))
	f.Add("name", "error", "key", "value", int64(1), int64(2))
	f.Fuzz(func(t *testing.T, name, failure, key, value string, start, number int64) { // property: the published types read back what was written, as UTF-8
		raw := AppendTraces(nil, resource, []Span{{Name: name, Error: failure, Start: start, Attributes: []wire.Attribute{{Key: key, Value: value}}, Ints: []Int{{key, number}}}})
		var got collecttrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		s := got.ResourceSpans[0].ScopeSpans[0].Spans[0]
		name, failure, key, value = valid(name), valid(failure), valid(key), valid(value)
		if s.Name != name || s.GetStatus().GetMessage() != failure || s.StartTimeUnixNano != uint64(start) ||
			s.Attributes[0].Key != key || s.Attributes[0].Value.GetStringValue() != value || s.Attributes[1].Value.GetIntValue() != number {
			t.Fatalf("got %v", s)
		}
	})
}

func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func FuzzTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, s string) { // property: what is accepted is written back to the same 55 bytes, but for unknown flags and version
		tr, sp, _, ok := ParseTraceparent(s)
		if ok && fmt.Sprintf("%x-%x", tr, sp) != s[3:52] {
			t.Fatalf("%q: %x %x", s, tr, sp)
		}
	})
}
