package otlp

import "testing"

// A container's creation as a monitor tells it: its span and those of the launcher's steps.
func BenchmarkTraces(b *testing.B) {
	spans := make([]Span, 20)
	for i := range spans {
		spans[i] = Span{Trace: [16]byte{9}, ID: [8]byte{byte(i)}, Parent: parent, Name: "libct.namespaces", Start: 1 << 60, End: 1<<60 + 1e6,
			Ints: []Int{{"process.pid", 4242}}}
	}
	buf := make([]byte, 0, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(AppendTraces(buf, resource, spans))))
	}
}

// A line of a container's log on its way to a collector.
func BenchmarkLogRecord(b *testing.B) {
	var batch LogBatch
	batch.Use(make([]byte, 0, 64<<10))
	record := &LogRecord{Body: "GET /healthz 200 1.2ms kube-probe/1.37", SeverityText: "stdout"}
	b.ReportAllocs()
	for b.Loop() {
		if !batch.Add(resource, record) {
			batch.Reset()
		}
	}
}

// The monitor's collector is off while it works: what it encodes must not add to its heap.
func TestEncodingAllocatesNothing(t *testing.T) {
	spans := []Span{{Trace: [16]byte{9}, ID: [8]byte{1}, Parent: parent, Name: "monitor.create", Start: 1, End: 2}}
	record := &LogRecord{Body: "line", SeverityText: "stdout"}
	buf := make([]byte, 0, 64<<10)
	var batch LogBatch
	batch.Use(make([]byte, 0, 64<<10))
	if n := testing.AllocsPerRun(100, func() {
		AppendTraces(buf, resource, spans)
		batch.Reset()
		batch.Add(resource, record)
		batch.Bytes()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
