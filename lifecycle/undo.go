package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undoBound is how long undoing may take in all. It is not the request's time: a
// client that went away must not leave half a pod.
const undoBound = 60 * time.Second

// undo is the list of what must be taken back when a multi-step operation fails.
// Its first step deletes the record that holds the intent: it is left out when
// something before it could not be taken back, so that a retry or recovery finds
// the record and tries again.
type undo struct{ steps []undoStep }

type undoStep struct {
	name string
	do   func(context.Context) error
}

// add registers the undoing of the step just done, or about to be done when it can
// fail half-way; do must succeed when there is nothing to undo.
func (u *undo) add(name string, do func(context.Context) error) {
	u.steps = append(u.steps, undoStep{name, do})
}

// run takes everything back, last first, and goes on after a failure. The context
// gives the span only.
func (u *undo) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBound)
	defer cancel()
	var errs []error
	for i := len(u.steps) - 1; i >= 0; i-- {
		step := u.steps[i]
		if i == 0 && len(errs) > 0 {
			break
		}
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", step.name, err))
		}
	}
	u.steps = nil
	return errors.Join(errs...)
}
