package telemetry

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Every failed step has a class: the room's own, unless the context ended it.
func TestAFailedStepHasAClass(t *testing.T) {
	tel, _ := start(t, Config{})
	for name, c := range map[string]struct {
		err  error
		room string
		want string
	}{
		"canceled":             {fmt.Errorf("wait: %w", context.Canceled), "", "cancel"},
		"too late":             {context.DeadlineExceeded, "", "timeout"},
		"canceled in a room":   {context.Canceled, "stall", "cancel"},
		"the room's":           {pod.ErrUnavailable, "dns", "dns"},
		"a sentinel":           {fmt.Errorf("find it: %w", pod.ErrNotFound), "", "notfound"},
		"nothing anyone knows": {errors.New("odd"), "", "_OTHER"},
	} {
		ctx, span := Start(tel.Context(t.Context()), "lifecycle.recover", attribute.String("case", name))
		if c.room != "" {
			span.Set(KeyErrorType.String(c.room))
		}
		span.End(&c.err)
		id := Traceparent(ctx)[3:35]
		tel.ended.settle()
		found := tel.Find("", true, 1000)
		ok := false
		for _, trace := range found {
			if trace.ID == id {
				s := trace.Spans[0]
				ok = s.Error && s.Status == c.err.Error() && s.Text("error.type") == c.want
				if !ok {
					t.Errorf("%s: class %q, status %q", name, s.Text("error.type"), s.Status)
				}
			}
		}
		if !ok && !t.Failed() {
			t.Errorf("%s: no such trace", name)
		}
	}
}
