package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// series is one metric with its labels by key.
type series struct {
	value  uint64
	labels map[string]string
}

// podMetrics reads the metrics and checks what holds of all of them: every series has
// as many labels as its descriptor has keys, and no two are the same.
func podMetrics(t *testing.T, n *node) map[string][]series {
	t.Helper()
	keys := map[string][]string{}
	for _, d := range harness.Must(n.cri.ListMetricDescriptors(n.ctx, &runtime.ListMetricDescriptorsRequest{}))(t).Descriptors {
		if d.Help == "" || keys[d.Name] != nil {
			t.Errorf("%s: described twice or without help", d.Name)
		}
		keys[d.Name] = d.LabelKeys
	}
	found, once := map[string][]series{}, map[string]bool{}
	take := func(metrics []*runtime.Metric) {
		for _, m := range metrics {
			if len(m.LabelValues) != len(keys[m.Name]) {
				t.Errorf("%s: labels %v for keys %v", m.Name, m.LabelValues, keys[m.Name])
				continue
			}
			id := fmt.Sprint(m.Name, m.LabelValues)
			if once[id] {
				t.Errorf("twice: %s", id)
			}
			once[id] = true
			one := series{m.GetValue().GetValue(), map[string]string{}}
			for i, key := range keys[m.Name] {
				one.labels[key] = m.LabelValues[i]
			}
			found[m.Name] = append(found[m.Name], one)
		}
	}
	listed := harness.Must(n.cri.ListPodSandboxMetrics(n.ctx, &runtime.ListPodSandboxMetricsRequest{}))(t).PodMetrics
	streamed := 0
	for _, r := range all(t, harness.Must(n.cri.StreamPodSandboxMetrics(n.ctx, &runtime.StreamPodSandboxMetricsRequest{}))(t)) {
		streamed += len(r.PodSandboxMetrics)
	}
	if streamed != len(listed) {
		t.Errorf("%d pods are listed, %d streamed", len(listed), streamed)
	}
	for _, p := range listed {
		take(p.Metrics)
		for _, c := range p.ContainerMetrics {
			take(c.Metrics)
		}
	}
	return found
}

// of is the one series of a container.
func of(t *testing.T, found map[string][]series, name, container string) series {
	t.Helper()
	i := slices.IndexFunc(found[name], func(s series) bool { return s.labels["container"] == container })
	if i < 0 {
		t.Fatalf("no %s of container %s", name, container)
	}
	return found[name][i]
}

func TestMetricsAreLabelledOnceInTheRightUnitsAndEndWithTheirPod(t *testing.T) {
	n := start(t, harness.Options{})
	gone, pod := n.Pod("gone"), n.Pod("measured")
	n.must(n.cri.RemovePod(n.ctx, harness.Must(n.cri.RunPod(n.ctx, gone))(t)))
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	ended, _ := n.run(sandbox, pod, "ended", "true")
	harness.Must(n.cri.WaitExit(n.ctx, ended))(t)
	began := time.Now()
	c := harness.Container(pod, "busy", n.image, "/bin/sh", "-c", "dd if=/dev/zero of=/dev/shm/held bs=1M count=20 2>/dev/null; timeout 3 yes >/dev/null; ulimit -n 512; echo idle; exec nc -l -p 4321")
	c.Linux.Resources = &runtime.LinuxContainerResources{MemoryLimitInBytes: 128 << 20, CpuQuota: 90000, CpuPeriod: 100000, CpuShares: 300}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "idle")

	found := podMetrics(t, n)
	for name, list := range found {
		for _, s := range list {
			if s.labels["pod"] != "measured" || s.labels["namespace"] != "test" {
				t.Errorf("%s: labels %v, want those of the one pod there is", name, s.labels)
			}
			if s.labels["container"] == "ended" {
				t.Errorf("%s: a container that has ended still has it", name)
			}
		}
	}
	for name, want := range map[string]uint64{
		"container_ulimits_soft": 512, "container_spec_memory_reservation_limit_bytes": 0,
		"container_spec_memory_limit_bytes": 128 << 20, "container_spec_cpu_quota": 90000, "container_spec_cpu_period": 100000, "container_spec_cpu_shares": 300,
	} {
		if got := of(t, found, name, "busy").value; got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	if s := of(t, found, "container_start_time_seconds", "busy"); s.value < uint64(began.Unix()) || s.value > uint64(time.Now().Unix()) || s.labels["name"] != id {
		t.Errorf("container_start_time_seconds is %d with labels %v", s.value, s.labels)
	}
	if got := of(t, found, "container_threads", "busy").value; got == 0 {
		t.Error("no threads")
	}
	if got := of(t, found, "container_ulimits_soft", "busy").labels["ulimit"]; got != "max_open_files" {
		t.Errorf("container_ulimits_soft is of %q", got)
	}
	for until := time.Now().Add(harness.Scale(30 * time.Second)); of(t, found, "container_sockets", "busy").value != 1; found = podMetrics(t, n) {
		if time.Now().After(until) {
			t.Fatalf("a container that listens has %d sockets", of(t, found, "container_sockets", "busy").value)
		}
	}
	// Idle, the container's figures stand still: the files must agree, in the right unit.
	nanos, memory := cgroupFigures(t, of(t, found, "container_cpu_usage_seconds_total", "busy").labels["id"])
	if got := of(t, found, "container_cpu_usage_seconds_total", "busy").value; got > nanos/1e9 || got+1 < nanos/1e9 {
		t.Errorf("container_cpu_usage_seconds_total is %d, the cgroup's %d ns", got, nanos)
	}
	if got := of(t, found, "container_memory_usage_bytes", "busy").value; got < 20<<20 || got > memory+8<<20 || got+8<<20 < memory {
		t.Errorf("container_memory_usage_bytes is %d, the cgroup's %d", got, memory)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	for name, list := range podMetrics(t, n) {
		t.Errorf("%s: %d series are left of no pod", name, len(list))
	}
	n.nothingLeft()
}

// cgroupFigures reads CPU time in nanoseconds and memory in bytes where the kernel has them.
func cgroupFigures(t *testing.T, path string) (nanos, memory uint64) {
	t.Helper()
	number := func(text string) uint64 {
		v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if raw, err := os.ReadFile("/sys/fs/cgroup/memory" + path + "/memory.usage_in_bytes"); err == nil {
		return number(string(harness.Must(os.ReadFile("/sys/fs/cgroup/cpuacct" + path + "/cpuacct.usage"))(t))), number(string(raw))
	}
	stat := string(harness.Must(os.ReadFile("/sys/fs/cgroup" + path + "/cpu.stat"))(t))
	return number(strings.Fields(stat)[1]) * 1000, number(string(harness.Must(os.ReadFile("/sys/fs/cgroup" + path + "/memory.current"))(t)))
}
