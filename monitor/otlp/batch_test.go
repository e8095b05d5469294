package otlp

import (
	"testing"

	collectlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

func TestBatchHasItsResourceOnceAndNeverGrows(t *testing.T) {
	buf := make([]byte, 0, 4096)
	var b LogBatch
	b.Use(buf)
	if b.Bytes() != nil {
		t.Error("an empty batch has bytes")
	}
	for round := range 3 {
		n := 0
		for b.Add(resource, &LogRecord{Time: int64(n + 1), Body: "a line", Attributes: []wire.Attribute{{Key: "log.iostream", Value: "stdout"}}}) {
			n++
		}
		var got collectlogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		records := got.ResourceLogs[0].ScopeLogs[0].LogRecords
		if n < 10 || b.Records != n || len(records) != n || len(got.ResourceLogs) != 1 || records[n-1].TimeUnixNano != uint64(n) || &b.Bytes()[0] != &buf[:1][0] {
			t.Errorf("round %d: %d records of %d", round, len(records), n)
		}
		b.Reset()
	}
	if n := testing.AllocsPerRun(100, func() { b.Add(resource, &LogRecord{Body: "x"}); b.Reset() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// property: the published types read back every record as it was meant, as UTF-8, and
// what did not fit changed nothing.
func FuzzLogBatch(f *testing.F) {
	f.Add("body", "key", "value", int64(1), uint8(9), uint16(300), true)
	f.Add("\xff\xfe\x00", "\xc3", "", int64(-1), uint8(255), uint16(5), false)
	f.Fuzz(func(t *testing.T, body, key, value string, at int64, severity uint8, size uint16, traced bool) {
		var b LogBatch
		b.Use(make([]byte, 0, size))
		r := LogRecord{Time: at, Observed: at + 1, Severity: int(severity), SeverityText: key, Body: body, Attributes: []wire.Attribute{{Key: key, Value: value}}}
		if traced {
			r.Trace, r.Span = [16]byte{1, severity}, [8]byte{2, severity}
		}
		res, n := Resource{Service: value, Attributes: []wire.Attribute{{Key: "k", Value: body}}}, 0
		for n < 5 && b.Add(&res, &r) {
			n++
		}
		var got collectlogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if b.Bytes() != nil {
				t.Fatal("an empty batch has bytes")
			}
			return
		}
		records := got.ResourceLogs[0].ScopeLogs[0].LogRecords
		if len(records) != n || attributes(got.ResourceLogs[0].Resource.Attributes)["k"] != valid(body) {
			t.Fatalf("%d records of %d", len(records), n)
		}
		for _, g := range records {
			if g.Body.GetStringValue() != valid(body) || g.TimeUnixNano != uint64(at) || g.ObservedTimeUnixNano != uint64(at+1) || g.SeverityNumber != 0 && int(g.SeverityNumber) != int(severity) ||
				g.SeverityText != valid(key) || g.Attributes[0].Key != valid(key) || g.Attributes[0].Value.GetStringValue() != valid(value) || (len(g.TraceId) == 16) != traced {
				t.Fatalf("got %v", g)
			}
		}
	})
}
