package otlp

import "github.com/vitrine-runtime/vitrine/monitor/wire"

// LogBatch is one ExportLogsServiceRequest that grows record by record, with its
// resource once. It never grows beyond the capacity of the buffer it is given.
type LogBatch struct {
	// Records is how many are in it.
	Records         int
	buf             []byte
	request, scopes int
}

// Use gives the batch, which must be empty, its buffer.
func (b *LogBatch) Use(buf []byte) { b.buf = buf[:0] }

// Add adds a record under the resource of the batch's first one. It reports whether
// there was room; without, the batch is as before.
func (b *LogBatch) Add(res *Resource, r *LogRecord) bool {
	before := len(b.buf)
	if before+bound(res, r, b.Records == 0) > cap(b.buf) {
		return false
	}
	if b.Records == 0 {
		b.buf, b.request = wire.Open(b.buf, 1) // resource_logs
		b.buf = appendResource(b.buf, res)
		b.buf, b.scopes = wire.Open(b.buf, 2) // scope_logs
		b.buf = appendScope(b.buf)
	}
	var record int
	b.buf, record = wire.Open(b.buf, 2)
	b.buf = appendLog(b.buf, r)
	wire.Shut(b.buf, record)
	b.Records++
	return true
}

// bound is no less than the encoded size.
func bound(res *Resource, r *LogRecord, first bool) int {
	const overhead = 24 // keys and lengths of one attribute
	n := 3*(len(r.Body)+len(r.SeverityText)) + 160
	for _, a := range r.Attributes {
		n += 3*(len(a.Key)+len(a.Value)) + overhead
	}
	if first {
		n += 3*len(res.Service) + len(scope) + 160
		for _, a := range res.Attributes {
			n += 3*(len(a.Key)+len(a.Value)) + overhead
		}
	}
	return n
}

// Bytes is the whole request, nil for an empty batch. It aliases the buffer.
func (b *LogBatch) Bytes() []byte {
	if b.Records == 0 {
		return nil
	}
	wire.Shut(b.buf, b.scopes)
	wire.Shut(b.buf, b.request)
	return b.buf
}

// Reset empties the batch.
func (b *LogBatch) Reset() { b.buf, b.Records = b.buf[:0], 0 }
