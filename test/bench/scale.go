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
	n := &fullNode{t: t, r: r, size: o.scale}
	defer func() {
		for _, id := range n.pods {
			if e := t.cri.RemovePod(context.WithoutCancel(ctx), id); err == nil {
				err = e
			}
		}
	}()
	for _, part := range []func(context.Context) error{n.fill, n.growth("after the starts"), n.calls, n.idle, n.growth("after the calls"), n.restart} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fullNode is a node with size pods of one container, or on its way there.
type fullNode struct {
	t    *target
	r    *report
	size int
	pods []string
	ids  []string // of pods and containers
	few  memory   // the daemon's when there were scaleEdge of them, beside the one that warmed its caches
}

// cell is the name of a figure in the report.
func (n *fullNode) cell(name string) string { return fmt.Sprintf("%d pods: %s", n.size, name) }

// fill starts the pods, one after the other.
func (n *fullNode) fill(ctx context.Context) error {
	t, r := n.t, n.r
	var first, last []string // their traces
	for i := range n.size {
		pod := t.HostPod("scale")
		up, trace := harness.Traced(ctx)
		from := time.Now()
		sandbox, err := t.cri.RunPod(up, pod)
		if err != nil {
			return err
		}
		n.pods = append(n.pods, sandbox)
		id, err := t.cri.Run(up, sandbox, pod, harness.Container(pod, "c", t.image, "/bin/sleep", "86400"))
		if err != nil {
			return err
		}
		n.ids = append(n.ids, sandbox, id)
		took := time.Since(from).Seconds() * 1000
		switch {
		case i == 0: // it warms caches
		case i <= scaleEdge:
			r.add(t.name, n.cell("start of the first"), milliseconds, took)
			first = append(first, trace)
			if i == scaleEdge {
				// From here on memory grows with pods: what the pull of the image took has
				// been given back, and what a first start leaves behind is there.
				time.Sleep(scaleSettle)
				if n.few, err = memoryOf(t.daemon); err != nil {
					return err
				}
			}
		case i >= n.size-scaleEdge:
			r.add(t.name, n.cell("start of the last"), milliseconds, took)
			last = append(last, trace)
		}
	}
	if err := addSteps(ctx, t, r.stepsOf("the start of one of the first pods"), first); err != nil {
		return err
	}
	return addSteps(ctx, t, r.stepsOf("the start of one of the last pods"), last)
}

// growth is how much memory each pod has cost the daemon since there were few.
func (n *fullNode) growth(when string) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(scaleSettle)
		now, err := memoryOf(n.t.daemon)
		if err != nil {
			return err
		}
		pods := n.size - scaleEdge - 1
		n.r.add(n.t.name, n.cell("daemon's growth per pod, private dirty, "+when), kibibytes, float64(now.private-n.few.private)/1024/float64(pods))
		return nil
	}
}

// calls asks what kubelet and Prometheus ask of a node.
func (n *fullNode) calls(ctx context.Context) error {
	t, r := n.t, n.r
	type call struct {
		name  string
		times int
		do    func() error
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
			_, err := t.cri.PodStatus(ctx, n.pods[len(n.pods)/2])
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
		for range call.times {
			from := time.Now()
			if err := call.do(); err != nil {
				return fmt.Errorf("%s: %w", call.name, err)
			}
			took = append(took, time.Since(from).Seconds()*1000)
		}
		r.add(t.name, n.cell(call.name+", daemon's CPU"), milliseconds, (cpuOf(t.daemon)-used)*1000/float64(call.times))
		r.add(t.name, n.cell(call.name), milliseconds, quantile(took, 0.5))
		r.add(t.name, n.cell(call.name+", 99th percentile"), milliseconds, quantile(took, 0.99))
	}
	return nil
}

// restart kills the daemon, if it is ours, and asks the next one for the pods.
func (n *fullNode) restart(ctx context.Context) error {
	t, r := n.t, n.r
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
	if len(list.Items) != n.size {
		return fmt.Errorf("after its restart the daemon lists %d pods of %d", len(list.Items), n.size)
	}
	r.add(t.name, n.cell("killed daemon lists them again"), milliseconds, time.Since(from).Seconds()*1000)
	t.daemon, err = listener(t.socket)
	return err
}

// idle is the CPU time of daemon and monitors while nobody asks anything, per second of the clock.
func (n *fullNode) idle(ctx context.Context) error {
	t := n.t
	pids, err := monitorsOf(n.ids)
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
	n.r.add(t.name, n.cell("idle CPU per second, daemon and monitors"), milliseconds, (spent()-used)*1000/time.Since(from).Seconds())
	return nil
}
