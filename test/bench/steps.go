package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// A step is one span of a pod's start, named by its way from the root. Times are in
// nanoseconds, from the beginning of the trace.
type step struct {
	path, parent string
	name         string
	service      string
	starts, took []float64
}

// steps collects the same step of many starts. It draws the medians as one trace: where
// the time of a usual start goes.
type steps struct{ byPath map[string]*step }

// measureSteps traces pod starts on the host's network by the daemon's own spans. Peers
// have none.
func measureSteps(ctx context.Context, o options, t *target, r *report) error {
	if t.trace == nil {
		return nil
	}
	var ids []string
	for i := range o.pods {
		traced, id := harness.Traced(ctx)
		if err := tracedStart(ctx, traced, t, t.HostPod("steps")); err != nil {
			return err
		}
		if i > 0 { // the first one compiles filters and warms caches
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		trace, err := t.trace(ctx, id)
		if err != nil {
			return err
		}
		r.steps.add(trace)
	}
	return nil
}

// tracedStart runs a pod with one container under traced and removes it under ctx.
func tracedStart(ctx, traced context.Context, t *target, pod *runtime.PodSandboxConfig) error {
	sandbox, err := t.cri.RunPod(traced, pod)
	if err != nil {
		return fmt.Errorf("run pod: %w", err)
	}
	if _, err := t.cri.Run(traced, sandbox, pod, harness.Container(pod, "c", t.image, "/bin/payload", "wait")); err != nil {
		return fmt.Errorf("run container: %w", err)
	}
	if err := t.cri.StopPod(ctx, sandbox); err != nil {
		return err
	}
	return t.cri.RemovePod(ctx, sandbox)
}

func (s *steps) add(t *waterfall.Trace) {
	t.Sort()
	zero, _ := t.Bounds()
	paths := map[string]string{}
	for _, span := range t.Spans { // a parent comes before its children
		parent := paths[span.ParentID]
		path := parent + "/" + span.Name
		paths[span.ID] = path
		one := s.byPath[path]
		if one == nil {
			one = &step{path: path, parent: parent, name: span.Name, service: span.Service}
			s.byPath[path] = one
		}
		one.starts = append(one.starts, float64(span.Start-zero))
		one.took = append(one.took, float64(span.Duration()))
	}
}

// print draws the trace of medians, if there is any.
func (s *steps) print(w io.Writer) error {
	if len(s.byPath) == 0 {
		return nil
	}
	medians := &waterfall.Trace{ID: "median"}
	n := 0
	for path, one := range s.byPath {
		n = max(n, len(one.took))
		start := int64(quantile(one.starts, 0.5))
		medians.Spans = append(medians.Spans, waterfall.Span{ID: path, ParentID: one.parent, Name: one.name, Service: one.service,
			Start: start, End: start + int64(quantile(one.took, 0.5))})
	}
	slices.SortFunc(medians.Spans, func(a, b waterfall.Span) int { return cmp.Compare(a.Start, b.Start) })
	fmt.Fprintf(w, "\na pod's start by its own trace, medians of %d\n", n)
	return waterfall.Render(w, []*waterfall.Trace{medians}, waterfall.Options{Width: 120})
}
