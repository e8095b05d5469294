package cri_test

import (
	"errors"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

// figures are a cgroup's with every part filled. Half a core is in use.
func (n *node) figures() lifecycle.CgroupStats {
	n.cpu = uint64(n.clock.UnixNano()-1_800_000_000e9) / 2
	stall := &cgroup.PSI{Some: cgroup.PSILine{Avg10: 1, Avg60: 2, Avg300: 3, Total: 4}, Full: cgroup.PSILine{Total: 5}}
	return lifecycle.CgroupStats{
		CPU: &cgroup.CPUStats{At: n.clock, Usage: n.cpu, PSI: stall},
		Memory: &cgroup.MemoryStats{
			At: n.clock, Usage: 300, WorkingSet: 200, RSS: 100, Limit: 1000, PageFaults: 6, MajorPageFaults: 7, PSI: stall,
		},
		Swap: &cgroup.SwapStats{At: n.clock, Usage: 10, Limit: 50},
		Pids: &cgroup.PidsStats{At: n.clock, Threads: 9, Processes: 4},
		IO:   &cgroup.IOStats{At: n.clock, PSI: stall},
	}
}

func TestContainerStatsHaveEveryFigure(t *testing.T) {
	k := newKubelet(t)
	_, id := k.running("web", 0)
	get := func() *runtime.ContainerStats {
		r, err := k.ContainerStats(t.Context(), &runtime.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStats()
	}
	first, second := get(), get()
	if first.GetCpu().GetUsageNanoCores() != nil {
		t.Error("a first reading has a rate")
	}
	if got := second.GetCpu().GetUsageNanoCores().GetValue(); got != 5e8 {
		t.Errorf("half a core was used, and the rate is %d nanocores", got)
	}
	checkMessage(t, "container-stats", second)
}

func TestSandboxStatsHaveEveryFigure(t *testing.T) {
	k := newKubelet(t)
	sandbox, _ := k.running("web", 0)
	r, err := k.PodSandboxStats(t.Context(), &runtime.PodSandboxStatsRequest{PodSandboxId: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "sandbox-stats", r.GetStats())
}

func TestStatsListsHaveRunningObjectsOnly(t *testing.T) {
	k := newKubelet(t)
	sandbox, running := k.running("web", 0)
	_, broken := k.running("db", 1)
	k.node.broken[pod.ID(broken)] = errors.New("the cgroup is going away")
	k.create(sandbox, "created", 0)
	stopped, _ := k.running("old", 2)
	if _, err := k.StopPodSandbox(t.Context(), &runtime.StopPodSandboxRequest{PodSandboxId: stopped}); err != nil {
		t.Fatal(err)
	}
	list, err := k.ListContainerStats(t.Context(), &runtime.ListContainerStatsRequest{})
	if err != nil || len(list.GetStats()) != 1 || list.GetStats()[0].GetAttributes().GetId() != running {
		t.Errorf("container stats: %v, %v", list, err)
	}
	for name, filter := range map[string]*runtime.ContainerStatsFilter{
		"id":      {Id: running[:8], PodSandboxId: sandbox},
		"labels":  {LabelSelector: map[string]string{"app": "web"}},
		"another": {Id: running, PodSandboxId: stopped},
	} {
		list, err := k.ListContainerStats(t.Context(), &runtime.ListContainerStatsRequest{Filter: filter})
		if want := map[bool]int{true: 0, false: 1}[name == "another"]; err != nil || len(list.GetStats()) != want {
			t.Errorf("filter %s: %d items, %v", name, len(list.GetStats()), err)
		}
	}
	pods, err := k.ListPodSandboxStats(t.Context(), &runtime.ListPodSandboxStatsRequest{})
	if err != nil || len(pods.GetStats()) != 2 {
		t.Errorf("sandbox stats: %d items, %v", len(pods.GetStats()), err)
	}
	streamed, err := drain(k.StreamPodSandboxStats(t.Context(), &runtime.StreamPodSandboxStatsRequest{}))
	if err != nil || len(streamed) != 1 || len(streamed[0].GetPodSandboxStats()) != 2 {
		t.Errorf("streamed sandbox stats: %v, %v", streamed, err)
	}
	containers, err := drain(k.StreamContainerStats(t.Context(), &runtime.StreamContainerStatsRequest{}))
	if err != nil || len(containers) != 1 || len(containers[0].GetContainerStats()) != 1 {
		t.Errorf("streamed container stats: %v, %v", containers, err)
	}
}
