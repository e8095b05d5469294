package harness

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"google.golang.org/grpc/metadata"
)

// Traced returns a context whose calls continue a fresh trace, as kubelet's do, and
// the trace's id.
func Traced(ctx context.Context) (_ context.Context, traceID string) {
	var raw [24]byte
	rand.Read(raw[:])
	traceID = hex.EncodeToString(raw[:16])
	parent := "00-" + traceID + "-" + hex.EncodeToString(raw[16:]) + "-01"
	return metadata.AppendToOutgoingContext(ctx, "traceparent", parent), traceID
}

// settled is how long a trace must stay as it is to be taken for complete: monitors
// report their steps a moment after the answer.
const settled = 250 * time.Millisecond

// Trace asks the daemon for a trace until its roots have ended and nothing more is
// reported.
func (d *Daemon) Trace(ctx context.Context, traceID string) (*waterfall.Trace, error) {
	deadline := time.Now().Add(Scale(5 * time.Second))
	spans, since := 0, time.Now()
	for {
		trace, err := d.trace(traceID)
		if err == nil && len(trace.Spans) != spans {
			spans, since = len(trace.Spans), time.Now()
		}
		if err == nil && finished(trace) && time.Since(since) > Scale(settled) {
			return trace, nil
		}
		if err == nil {
			err = fmt.Errorf("trace %s is not complete: %d spans", traceID, len(trace.Spans))
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *Daemon) trace(traceID string) (*waterfall.Trace, error) {
	body, err := d.Get("/v1/traces/" + traceID)
	if err != nil {
		return nil, err
	}
	var trace waterfall.Trace
	if err := json.Unmarshal([]byte(body), &trace); err != nil {
		return nil, fmt.Errorf("decode trace %s: %w", traceID, err)
	}
	return &trace, nil
}

func finished(t *waterfall.Trace) bool {
	roots := t.Roots()
	for _, r := range roots {
		if r.Unfinished {
			return false
		}
	}
	return len(roots) > 0
}
