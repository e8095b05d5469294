package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// operations is the table of what is in flight; `vitrine status` prints it.
type operations struct {
	mu   sync.Mutex // guards live and the fields of its members
	live map[*operation]struct{}
}

// operation is one entry, with the span of its door.
type operation struct {
	table *operations
	info  Operation
	span  *telemetry.Span
	at    string // the phase that did the work: what came before "undo"
}

// begin opens the span lifecycle.NAME and enters the operation into the table.
// The caller ends it with end.
func (t *operations) begin(ctx context.Context, name, subject string, id pod.ID, attrs []attribute.KeyValue) (context.Context, *operation) {
	return t.beginAt(ctx, time.Now(), name, subject, id, attrs)
}

// beginAt is begin for an operation that has already looked up what it is about.
func (t *operations) beginAt(ctx context.Context, now time.Time, name, subject string, id pod.ID, attrs []attribute.KeyValue) (context.Context, *operation) {
	ctx, span := telemetry.StartAt(ctx, now, "lifecycle."+name, attrs...)
	op := &operation{table: t, span: span, info: Operation{Name: name, Subject: subject, ID: id, Phase: "begin", Since: now, Began: now}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live[op] = struct{}{}
	return ctx, op
}

// end takes the operation out of the table and closes its span with *err, to which it
// adds the step that failed.
func (op *operation) end(err *error) {
	op.table.mu.Lock()
	delete(op.table.live, op)
	at := op.at
	op.table.mu.Unlock()
	if *err != nil && at != "" {
		*err = fmt.Errorf("step %s: %w", at, *err)
	}
	op.span.End(err)
}

// enter names the step that the operation is in. The room that does the step
// opens its own span.
func (op *operation) enter(phase string) {
	op.table.mu.Lock()
	defer op.table.mu.Unlock()
	op.info.Phase, op.info.Since = phase, time.Now()
	if phase != "undo" {
		op.at = phase
	}
}

// step runs a part of the operation that is lifecycle's own work, under a span
// of its own.
func (op *operation) step(ctx context.Context, name string, do func(context.Context) error) (err error) {
	op.enter(name)
	ctx, span := telemetry.Start(ctx, "lifecycle."+name)
	defer span.End(&err)
	if err := span.Fault(); err != nil {
		return err
	}
	return do(ctx)
}

// alone says that nothing but the caller's own operation is in flight.
func (t *operations) alone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live) <= 1
}

func (t *operations) list() []Operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Operation, 0, len(t.live))
	for op := range t.live {
		all = append(all, op.info)
	}
	slices.SortFunc(all, func(a, b Operation) int { return a.Began.Compare(b.Began) })
	return all
}
