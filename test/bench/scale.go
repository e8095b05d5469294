package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// Sizes of the part scale: starts compared at either end, calls per figure, and how
// long nothing happens.
const (
	scaleEdge  = 10
	scaleCalls = 300
	scaleStats = 50
	scaleIdle  = 10 * time.Second
	// scaleSettle is how long a daemon has to give back what it no longer needs.
	scaleSettle = 3 * time.Second
)

// measureScale fills a node with pods and asks what kubelet asks of a full one. Starts
// of the first and of the last pods tell whether cost grows with what exists. It is
// not among the parts that run by default: it takes minutes.
func measureScale(ctx context.Context, o options, t *target, r *report) (err error) {
	if o.scale < 2*scaleEdge {
		return fmt.Errorf("%d pods are too few, at least %d", o.scale, 2*scaleEdge)
	}
	var few memory
	var pods, ids, first, last []string
	defer func() {
		for _, id := range pods {
			if e := t.cri.RemovePod(context.WithoutCancel(ctx), id); err == nil {
				err = e
			}
		}
	}()
	cell := func(name string) string { return fmt.Sprintf("%d pods: %s", o.scale, name) }
	for i := range o.scale {
		pod := t.HostPod("scale")
		up, trace := harness.Traced(ctx)
		from := time.Now()
		sandbox, err := t.cri.RunPod(up, pod)
		if err != nil {
			return err
		}
		pods = append(pods, sandbox)
		id, err := t.cri.Run(up, sandbox, pod, harness.Container(pod, "c", t.image, "/bin/sleep", "86400"))
		if err != nil {
			return err
		}
		ids = append(ids, sandbox, id)
		took := time.Since(from).Seconds() * 1000
		switch {
		case i == 0: // it warms caches
		case i <= scaleEdge:
			r.add(t.name, cell("start of the first"), milliseconds, took)
			first = append(first, trace)
			if i == scaleEdge {
				// From here on memory grows with pods: what the pull of the image took has
				// been given back, and what a first start leaves behind is there.
				time.Sleep(scaleSettle)
				if few, err = memoryOf(t.daemon); err != nil {
					return err
				}
			}
		case i >= o.scale-scaleEdge:
			r.add(t.name, cell("start of the last"), milliseconds, took)
			last = append(last, trace)
		}
	}
	if err := addSteps(ctx, t, r.stepsOf("the start of one of the first pods"), first); err != nil {
		return err
	}
	if err := addSteps(ctx, t, r.stepsOf("the start of one of the last pods"), last); err != nil {
		return err
	}
	if err := addGrowth(t, r, cell("daemon's growth per pod, private dirty, after the starts"), o.scale-scaleEdge-1, few); err != nil {
		return err
	}
	type call struct {
		name string
		n    int
		do   func() error
	}
	calls := []call{
		{"ListContainers", scaleCalls, func() error {
			_, err := t.cri.ListContainers(ctx, &runtime.ListContainersRequest{})
			return err
		}},
		{"ListPodSandbox", scaleCalls, func() error {
			_, err := t.cri.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
			return err
		}},
		{"PodSandboxStatus", scaleCalls, func() error {
			_, err := t.cri.PodStatus(ctx, pods[len(pods)/2])
			return err
		}},
		{"ListContainerStats", scaleStats, func() error {
			_, err := t.cri.ListContainerStats(ctx, &runtime.ListContainerStatsRequest{})
			return err
		}},
	}
	if t.restart != nil { // one of ours: others have no such page
		calls = append(calls, call{"scrape of containers and pods", scaleStats, func() error {
			_, err := t.Scrape("/metrics/containers")
			return err
		}})
	}
	for _, call := range calls {
		var took []float64
		used := cpuOf(t.daemon)
		for range call.n {
			from := time.Now()
			if err := call.do(); err != nil {
				return fmt.Errorf("%s: %w", call.name, err)
			}
			took = append(took, time.Since(from).Seconds()*1000)
		}
		r.add(t.name, cell(call.name+", daemon's CPU"), milliseconds, (cpuOf(t.daemon)-used)*1000/float64(call.n))
		r.add(t.name, cell(call.name), milliseconds, quantile(took, 0.5))
		r.add(t.name, cell(call.name+", 99th percentile"), milliseconds, quantile(took, 0.99))
	}
	if err := measureIdle(ctx, t, r, ids, cell); err != nil {
		return err
	}
	if err := addGrowth(t, r, cell("daemon's growth per pod, private dirty, after the calls"), o.scale-scaleEdge-1, few); err != nil {
		return err
	}
	if t.restart == nil {
		return nil
	}
	from := time.Now()
	if _, err := t.restart(ctx); err != nil {
		return err
	}
	list, err := t.cri.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	if len(list.Items) != o.scale {
		return fmt.Errorf("after its restart the daemon lists %d pods of %d", len(list.Items), o.scale)
	}
	r.add(t.name, cell("killed daemon lists them again"), milliseconds, time.Since(from).Seconds()*1000)
	t.daemon, err = listener(t.socket)
	return err
}

// addGrowth is how much memory each of so many pods has cost the daemon since there were few.
func addGrowth(t *target, r *report, name string, pods int, few memory) error {
	time.Sleep(scaleSettle)
	now, err := memoryOf(t.daemon)
	if err != nil {
		return err
	}
	r.add(t.name, name, kibibytes, float64(now.private-few.private)/1024/float64(pods))
	return nil
}

// measureIdle is the CPU time of daemon and monitors while nobody asks anything, per
// second of the clock.
func measureIdle(ctx context.Context, t *target, r *report, ids []string, cell func(string) string) error {
	pids, err := monitorsOf(ids)
	if err != nil {
		return err
	}
	if t.restart != nil { // ours say whose they are; others' daemons may be at work beside this run
		pids = slices.DeleteFunc(pids, func(pid int) bool {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return !bytes.Contains(line, []byte(t.State()))
		})
	}
	spent := func() (seconds float64) {
		for _, pid := range append(pids, t.daemon) {
			seconds += cpuOfThreads(pid)
		}
		return seconds
	}
	used, from := spent(), time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(scaleIdle):
	}
	r.add(t.name, cell("idle CPU per second, daemon and monitors"), milliseconds, (spent()-used)*1000/time.Since(from).Seconds())
	return nil
}
