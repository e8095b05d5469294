// Package otlp writes telemetry in the protocol buffers encoding of OTLP, as far as a
// monitor needs it: spans, log records, string and integer attributes. It is checked
// in tests against the published types of go.opentelemetry.io/proto/otlp.
//
// It links no protocol buffers library and allocates nothing but the growth of the
// buffer it is given. An export request is a repeated field, so requests that stand
// one behind the other are one request: callers batch by appending.
package otlp

import (
	"cmp"
	"strings"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Resource is what the telemetry speaks of.
type Resource struct {
	// Service is service.name.
	Service string
	// Attributes are further ones; borrowed.
	Attributes []wire.Attribute
}

// Span is one ended span. Times are nanoseconds since 1970.
type Span struct {
	Trace      [16]byte
	ID, Parent [8]byte
	Name       string
	Start, End int64
	// Error is the status of a failed step, empty for success. Class is then its
	// error.type; empty means _OTHER, as the conventions have it.
	Error, Class string
	Attributes   []wire.Attribute
	Ints         []Int
}

// Int is an attribute with an integer value.
type Int struct {
	Key   string
	Value int64
}

// LogRecord is one log record.
type LogRecord struct {
	Time, Observed int64
	// Severity is OTLP's number, 1 to 24 (9 is INFO, 17 is ERROR); 0 is unspecified.
	Severity     int
	SeverityText string
	Body         string
	Trace        [16]byte
	Span         [8]byte
	Attributes   []wire.Attribute
}

const scope = "github.com/vitrine-runtime/vitrine/monitor"

// AppendTraces appends an ExportTraceServiceRequest with spans behind buf.
func AppendTraces(buf []byte, res *Resource, spans []Span) []byte {
	buf, request := wire.Open(buf, 1) // resource_spans
	buf = appendResource(buf, res)
	buf, scopes := wire.Open(buf, 2) // scope_spans
	buf = appendScope(buf)
	for i := range spans {
		var span int
		buf, span = wire.Open(buf, 2)
		buf = appendSpan(buf, &spans[i])
		wire.Shut(buf, span)
	}
	wire.Shut(buf, scopes)
	wire.Shut(buf, request)
	return buf
}

func appendSpan(buf []byte, s *Span) []byte {
	buf = wire.AppendBytes(buf, 1, s.Trace[:])
	buf = wire.AppendBytes(buf, 2, s.ID[:])
	if s.Parent != [8]byte{} {
		buf = wire.AppendBytes(buf, 4, s.Parent[:])
	}
	buf = appendText(buf, 5, s.Name)
	buf = wire.AppendUint(buf, 6, 1) // SPAN_KIND_INTERNAL
	buf = wire.AppendFixed64(buf, 7, uint64(s.Start))
	buf = wire.AppendFixed64(buf, 8, uint64(s.End))
	buf = appendAttributes(buf, 9, s.Attributes)
	for _, a := range s.Ints {
		var pair, value int
		buf, pair = wire.Open(buf, 9)
		buf = appendText(buf, 1, a.Key)
		buf, value = wire.Open(buf, 2)
		buf = append(buf, 3<<3) // int_value, zero included
		buf = wire.AppendVarint(buf, uint64(a.Value))
		wire.Shut(buf, value)
		wire.Shut(buf, pair)
	}
	if s.Error != "" {
		class := [1]wire.Attribute{{Key: "error.type", Value: cmp.Or(s.Class, "_OTHER")}}
		buf = appendAttributes(buf, 9, class[:])
		var status int
		buf, status = wire.Open(buf, 15)
		buf = appendText(buf, 2, s.Error)
		buf = wire.AppendUint(buf, 3, 2) // STATUS_CODE_ERROR
		wire.Shut(buf, status)
	}
	return buf
}

func appendLog(buf []byte, r *LogRecord) []byte {
	buf = wire.AppendFixed64(buf, 1, uint64(r.Time))
	buf = wire.AppendUint(buf, 2, uint64(r.Severity))
	buf = appendText(buf, 3, r.SeverityText)
	var body int
	buf, body = wire.Open(buf, 5)
	buf = appendText(buf, 1, r.Body)
	wire.Shut(buf, body)
	buf = appendAttributes(buf, 6, r.Attributes)
	if r.Trace != [16]byte{} {
		buf = wire.AppendBytes(buf, 9, r.Trace[:])
		buf = wire.AppendBytes(buf, 10, r.Span[:])
	}
	return wire.AppendFixed64(buf, 11, uint64(r.Observed))
}

func appendResource(buf []byte, res *Resource) []byte {
	buf, resource := wire.Open(buf, 1)
	service := [1]wire.Attribute{{Key: "service.name", Value: res.Service}}
	buf = appendAttributes(buf, 1, service[:])
	buf = appendAttributes(buf, 1, res.Attributes)
	wire.Shut(buf, resource)
	return buf
}

func appendScope(buf []byte) []byte {
	buf, s := wire.Open(buf, 1)
	buf = appendText(buf, 1, scope)
	wire.Shut(buf, s)
	return buf
}

// appendAttributes appends one KeyValue per attribute as field num.
func appendAttributes(buf []byte, num int, attributes []wire.Attribute) []byte {
	for _, a := range attributes {
		var pair, value int
		buf, pair = wire.Open(buf, num)
		buf = appendText(buf, 1, a.Key)
		buf, value = wire.Open(buf, 2)
		text := strings.ToValidUTF8(a.Value, replacement)
		buf = append(wire.AppendHeader(buf, 1, len(text)), text...) // a oneof: an empty string is a value too
		wire.Shut(buf, value)
		wire.Shut(buf, pair)
	}
	return buf
}

// replacement stands for bytes that are no UTF-8: one such byte would make a receiver
// refuse the whole request.
const replacement = "\ufffd"

// appendText appends a string field. Text that is UTF-8 already is not copied first.
func appendText(buf []byte, num int, text string) []byte {
	return wire.AppendString(buf, num, strings.ToValidUTF8(text, replacement))
}
