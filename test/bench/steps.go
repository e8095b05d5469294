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

// A step is one span of a pod's start or end, named by its way from the root. Times are in
// nanoseconds, from the beginning of the trace.
type step struct {
	path, parent string
	name         string
	service      string
	starts, took []float64
}

// steps collects the same step of many starts, or ends. It draws the medians as one trace:
// where the time of a usual one goes.
type steps struct {
	title  string
	byPath map[string]*step
}

// measureSteps traces pods' starts and ends by the daemon's own spans, on the host's network
// and on CNI's. Peers have none.
func measureSteps(ctx context.Context, o options, t *target, r *report) error {
	if t.trace == nil {
		return nil
	}
	for _, network := range []struct {
		name string
		make func(string) *runtime.PodSandboxConfig
		skip bool
	}{{"the host's network", t.HostPod, false}, {"a CNI bridge", t.Pod, !t.network}} {
		if network.skip {
			continue
		}
		ids := map[string][]string{}
		for i := range o.pods {
			up, start := harness.Traced(ctx)
			down, end := harness.Traced(ctx)
			if err := tracedCycle(up, down, t, network.make("steps")); err != nil {
				return err
			}
			if i > 0 { // the first one compiles filters and warms caches
				ids["start"], ids["end"] = append(ids["start"], start), append(ids["end"], end)
			}
		}
		for _, which := range []string{"start", "end"} {
			s := r.stepsOf("a pod's " + which + " on " + network.name)
			if err := addSteps(ctx, t, s, ids[which]); err != nil {
				return err
			}
		}
	}
	return nil
}

// addSteps adds the traces with these ids. Peers have none.
func addSteps(ctx context.Context, t *target, s *steps, ids []string) error {
	if t.trace == nil {
		return nil
	}
	for _, id := range ids {
		trace, err := t.trace(ctx, id)
		if err != nil {
			return err
		}
		s.add(trace)
	}
	return nil
}

// tracedCycle runs a pod with one container under up and ends it under down.
func tracedCycle(up, down context.Context, t *target, pod *runtime.PodSandboxConfig) error {
	sandbox, err := t.cri.RunPod(up, pod)
	if err != nil {
		return fmt.Errorf("run pod: %w", err)
	}
	id, err := t.cri.Run(up, sandbox, pod, harness.Container(pod, "c", t.image, "/bin/payload", "wait"))
	if err != nil {
		return fmt.Errorf("run container: %w", err)
	}
	if err := t.cri.Stop(down, id, 10); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := t.cri.Remove(down, id); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if err := t.cri.StopPod(down, sandbox); err != nil {
		return fmt.Errorf("stop pod: %w", err)
	}
	return t.cri.RemovePod(down, sandbox) // stops it once more, as kubelet does
}

// stepsOf are the steps of one kind; they are printed in the order in which they are first
// asked for.
func (r *report) stepsOf(title string) *steps {
	for _, s := range r.steps {
		if s.title == title {
			return s
		}
	}
	s := &steps{title: title, byPath: map[string]*step{}}
	r.steps = append(r.steps, s)
	return s
}

func (s *steps) add(t *waterfall.Trace) {
	t.Sort()
	zero, _ := t.Bounds()
	paths := map[string]string{}
	taken := map[string]bool{}
	for _, span := range t.Spans { // a parent comes before its children
		parent := paths[span.ParentID]
		path := parent + "/" + span.Name
		for n := 2; taken[path]; n++ { // the same step once more
			path = fmt.Sprintf("%s/%s %d", parent, span.Name, n)
		}
		taken[path] = true
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
	fmt.Fprintf(w, "\n%s by its own trace, medians of %d\n", s.title, n)
	return waterfall.Render(w, []*waterfall.Trace{medians}, waterfall.Options{Width: 120})
}
