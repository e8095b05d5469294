package telemetry

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// exportedLog is a slog handler that writes to the daemon's log and, where logs are
// exported, to the collector. A record belongs to the span of its context, or to the
// trace that its attributes trace_id and span_id name.
type exportedLog struct {
	slog.Handler
	to     *atomic.Pointer[exporter]
	prefix string // groups, with a dot behind
	attrs  []slog.Attr
}

// Handle writes, then exports.
func (h exportedLog) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if e := h.to.Load(); e != nil {
		record := h.record(ctx, r)
		e.put(item{what: record, count: 1, size: 256 + len(r.Message)})
	}
	return err
}

// WithAttrs keeps the attributes.
func (h exportedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		kept = append(kept, a)
	}
	return exportedLog{h.Handler.WithAttrs(attrs), h.to, h.prefix, kept}
}

// WithGroup puts the name before the keys that follow.
func (h exportedLog) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return exportedLog{h.Handler.WithGroup(name), h.to, h.prefix + name + ".", h.attrs}
}

// logKeys are what the daemon's log calls by a short name and the conventions by a long one.
var logKeys = map[string]string{
	"namespace": string(KeyNamespace), "pod": string(KeyPodName), "pod_uid": string(KeyPodUID),
	"sandbox": string(KeySandboxID), "container": string(KeyContainerName), "container_id": string(KeyContainerID),
}

func (h exportedLog) record(ctx context.Context, r slog.Record) *logspb.LogRecord {
	number, text := severity(r.Level)
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	out := &logspb.LogRecord{
		TimeUnixNano: uint64(at.UnixNano()), ObservedTimeUnixNano: uint64(time.Now().UnixNano()),
		SeverityNumber: number, SeverityText: text, Body: anyValue(r.Message),
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		traceID, spanID := sc.TraceID(), sc.SpanID()
		out.TraceId, out.SpanId, out.Flags = traceID[:], spanID[:], uint32(sc.TraceFlags())
	}
	for _, a := range h.attrs {
		addAttr(out, "", a)
	}
	r.Attrs(func(a slog.Attr) bool { addAttr(out, h.prefix, a); return true })
	return out
}

func addAttr(out *logspb.LogRecord, prefix string, a slog.Attr) {
	if len(out.Attributes) >= maxItems {
		out.DroppedAttributesCount++
		return
	}
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range value.Group() {
			addAttr(out, prefix, inner)
		}
		return
	}
	switch key := prefix + a.Key; key {
	case "":
	case "trace_id":
		out.TraceId = idBytes(value, out.TraceId, 16)
	case "span_id":
		out.SpanId = idBytes(value, out.SpanId, 8)
	default:
		if long, found := logKeys[key]; found {
			key = long
		}
		out.Attributes = append(out.Attributes, protoAttribute(key, value.Any()))
	}
}

// idBytes decodes an id of the wanted length, else keeps the old one.
func idBytes(v slog.Value, old []byte, length int) []byte {
	if raw, err := hex.DecodeString(v.String()); err == nil && len(raw) == length {
		return raw
	}
	return old
}

// severity is "Mapping of SeverityNumber" of the logs data model.
func severity(l slog.Level) (logspb.SeverityNumber, string) {
	switch {
	case l >= slog.LevelError:
		return logspb.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
	case l >= slog.LevelWarn:
		return logspb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
	case l >= slog.LevelInfo:
		return logspb.SeverityNumber_SEVERITY_NUMBER_INFO, "INFO"
	}
	return logspb.SeverityNumber_SEVERITY_NUMBER_DEBUG, "DEBUG"
}

// anyValue encodes what slog and the SDK have as values; what it does not know
// becomes text, as slog's text format would have it, at most maxText bytes.
func anyValue(value any) *commonpb.AnyValue {
	text := func(s string) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: strings.ToValidUTF8(clip(s, maxText), "�")}}
	}
	number := func(n int64) *commonpb.AnyValue {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: n}}
	}
	switch v := value.(type) {
	case string:
		return text(v)
	case bool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
	case int:
		return number(int64(v))
	case int64:
		return number(v)
	case uint64:
		if v < 1<<63 {
			return number(int64(v))
		}
	case float64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}}
	case []string:
		list := &commonpb.ArrayValue{}
		for _, s := range v[:min(len(v), maxItems)] {
			list.Values = append(list.Values, text(s))
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}}
	case pod.ID:
		return text(string(v))
	}
	return text(fmt.Sprint(value))
}
