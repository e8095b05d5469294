package main

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// lookers is how many containers are looked at in one moment: a monitor that hangs
// costs lookBound, and many of them shall not cost that one after another.
const lookers = 16

// top answers GET /v1/top: what every container that has processes has used so far,
// by pod and name.
func (d *daemon) top(w http.ResponseWriter, r *http.Request) {
	var wait sync.WaitGroup
	var mu sync.Mutex // guards all
	all := []api.Usage{}
	places := make(chan struct{}, lookers)
	for _, c := range d.pods.Containers() {
		if c.State != pod.Running && c.State != pod.Stopping {
			continue
		}
		sb, err := d.pods.Sandbox(string(c.SandboxID))
		if err != nil {
			continue // removed just now
		}
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			line := d.usage(r.Context(), sb, c)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, line)
		})
	}
	wait.Wait()
	slices.SortFunc(all, func(a, b api.Usage) int {
		return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Container, b.Container), cmp.Compare(a.ID, b.ID))
	})
	answer(w, all)
}

// usage reads a container's cgroup and asks its monitor; what cannot be had is zero.
func (d *daemon) usage(ctx context.Context, sb pod.Sandbox, c pod.Container) api.Usage {
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	live := d.pods.Look(ctx, c.ID)
	line := api.Usage{Pod: podName(sb), Container: c.Config.GetMetadata().GetName(), ID: c.ID, LogBytes: live.LogBytes, LogDropped: live.LogDropped, At: time.Now()}
	if c.Cgroup == "" {
		return line
	}
	if stats, err := d.cgroups.Stats(c.Cgroup); err == nil {
		measure(&line, stats)
	}
	return line
}

func measure(line *api.Usage, stats cgroup.Stats) {
	var pressure api.Pressure
	pressed := false
	some := func(into *float64, psi *cgroup.PSI) {
		if psi != nil {
			*into, pressed = psi.Some.Avg10, true
		}
	}
	if cpu := stats.CPU; cpu != nil {
		line.At, line.CPU = cpu.At, time.Duration(cpu.Usage)
		line.Periods, line.ThrottledPeriods, line.Throttled = cpu.Periods, cpu.ThrottledPeriods, time.Duration(cpu.ThrottledTime)
		some(&pressure.CPU, cpu.PSI)
	}
	if m := stats.Memory; m != nil {
		line.Memory, line.MemoryLimit = m.WorkingSet, m.Limit
		some(&pressure.Memory, m.PSI)
	}
	if p := stats.Pids; p != nil {
		line.Tasks, line.TaskLimit = p.Threads, p.Limit
	}
	if i := stats.IO; i != nil {
		some(&pressure.IO, i.PSI)
	}
	if pressed {
		line.Pressure = &pressure
	}
}

// podName is namespace/name.
func podName(sb pod.Sandbox) string {
	m := sb.Config.GetMetadata()
	return m.GetNamespace() + "/" + m.GetName()
}

// podNames answers GET /v1/pods: the pods that there are, with their containers.
func (d *daemon) podNames(w http.ResponseWriter, _ *http.Request) {
	all := []api.Pod{}
	for _, sb := range d.pods.Sandboxes() {
		line := api.Pod{Name: podName(sb), Containers: []string{}}
		for _, c := range d.pods.ContainersOf(sb.ID) {
			if name := c.Config.GetMetadata().GetName(); !slices.Contains(line.Containers, name) {
				line.Containers = append(line.Containers, name)
			}
		}
		slices.Sort(line.Containers)
		all = append(all, line)
	}
	slices.SortFunc(all, func(a, b api.Pod) int { return cmp.Compare(a.Name, b.Name) })
	answer(w, all)
}
