package cri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

// told is everything that a host can tell of a cgroup, each figure another number.
func told() lifecycle.CgroupStats {
	stall := func(base time.Duration) *cgroup.PSI {
		return &cgroup.PSI{Some: cgroup.PSILine{Total: uint64(base + 2500*time.Millisecond)}, Full: cgroup.PSILine{Total: uint64(base)}}
	}
	return lifecycle.CgroupStats{
		CPU: &cgroup.CPUStats{
			Usage: 90_750_000_000, User: 60_500_000_000, System: 30_250_000_000, HasModes: true,
			Periods: 100, ThrottledPeriods: 40, ThrottledTime: 1_999_999_999, HasBandwidth: true, PSI: stall(10 * time.Second),
		},
		Memory: &cgroup.MemoryStats{
			Usage: 3000, WorkingSet: 2000, RSS: 1000, Cache: 900, MappedFile: 80, Limit: 1 << 28, MaxUsage: 3500, FailCount: 7,
			HasMaxUsage: true, HasFailCount: true, PageFaults: 60, MajorPageFaults: 6, OwnPageFaults: 50, OwnMajorPageFaults: 5, HasOwnFaults: true,
			ActiveFile: 300, InactiveFile: 200, HasFileLists: true, Kernel: 77, HasKernel: true, OOMKills: 2, HasOOMKills: true, Reservation: 1 << 20, HasReservation: true, PSI: stall(20 * time.Second),
		},
		Swap: &cgroup.SwapStats{Usage: 10, Limit: 50},
		Pids: &cgroup.PidsStats{Threads: 9, Processes: 4, Limit: 512, FileDescriptors: 33, HasFileDescriptors: true, Sockets: 11, HasSockets: true},
		IO: &cgroup.IOStats{PSI: stall(30 * time.Second), Devices: []cgroup.DeviceIO{
			{Minor: 1 << 19, ReadBytes: 4096, WriteBytes: 8192, ReadOps: 1, WriteOps: 2, DiscardBytes: 512, DiscardOps: 1},
			{Minor: 1<<19 + 1, ReadBytes: 1},
		}},
		Hugetlb: []cgroup.HugetlbStats{{PageSize: "2MB", Usage: 2 << 20, MaxUsage: 3 << 20, HasMaxUsage: true, FailCount: 3}},
	}
}

// everything fills a pod and its containers.
func everything(stats *lifecycle.SandboxStats) {
	stats.Cgroup, stats.Sandbox.CgroupParent = told(), "/kubepods/pod1"
	stats.Interfaces = []lifecycle.Interface{
		{Name: "eth0", RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8},
		{Name: "net1\xff", RxBytes: 9},
	}
	for i := range stats.Containers {
		c := &stats.Containers[i]
		c.Cgroup, c.Container.Cgroup = told(), "/kubepods/pod1/"+string(c.Container.ID)
		c.Container.Resources.CpuPeriod, c.Container.Resources.CpuQuota = 100_000, 50_000
		c.OpenFiles = 1024
		c.FileSystem = &lifecycle.FileSystem{Device: "/dev/vda1", Bytes: 1 << 40, Inodes: 1000, FreeInodes: 900}
	}
}

func (k *kubelet) podMetrics() []*runtime.PodSandboxMetrics {
	k.t.Helper()
	list, err := k.ListPodSandboxMetrics(k.t.Context(), &runtime.ListPodSandboxMetricsRequest{})
	if err != nil {
		k.t.Fatal(err)
	}
	return list.GetPodMetrics()
}

func (k *kubelet) page() string {
	k.t.Helper()
	var page bytes.Buffer
	if err := k.server.WriteContainerMetrics(&page); err != nil {
		k.t.Fatal(err)
	}
	return page.String()
}

func (k *kubelet) descriptors() map[string]*runtime.MetricDescriptor {
	k.t.Helper()
	list, err := k.ListMetricDescriptors(k.t.Context(), &runtime.ListMetricDescriptorsRequest{})
	if err != nil {
		k.t.Fatal(err)
	}
	byName := map[string]*runtime.MetricDescriptor{}
	for _, d := range list.GetDescriptors() {
		if byName[d.GetName()] != nil || d.GetHelp() == "" {
			k.t.Errorf("%s is there twice, or without help", d.GetName())
		}
		byName[d.GetName()] = d
	}
	return byName
}

// series are a pod's metrics and those of its containers.
func series(p *runtime.PodSandboxMetrics) []*runtime.Metric {
	all := p.GetMetrics()
	for _, c := range p.GetContainerMetrics() {
		all = slices.Concat(all, c.GetMetrics())
	}
	return all
}

func TestMetricsHaveTheLabelsOfTheirDescriptorsAndNoSeriesIsThereTwice(t *testing.T) {
	k := newKubelet(t)
	k.node.fill = everything
	sandbox, _ := k.running("web", 0)
	for attempt := range uint32(2) { // two of one name, told apart by id
		id := k.create(sandbox, "app", attempt)
		if _, err := k.StartContainer(t.Context(), &runtime.StartContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	again := sandboxConfig("web")
	again.Metadata.Attempt = 2 // of the same pod, in the same cgroup
	if _, err := k.RunPodSandbox(t.Context(), &runtime.RunPodSandboxRequest{Config: again}); err != nil {
		t.Fatal(err)
	}
	descriptors, seen, used := k.descriptors(), map[string]bool{}, map[string]bool{}
	for _, p := range k.podMetrics() {
		for _, m := range series(p) {
			d := descriptors[m.GetName()]
			if len(d.GetLabelKeys()) != len(m.GetLabelValues()) || len(slices.Compact(slices.Sorted(slices.Values(d.GetLabelKeys())))) != len(d.GetLabelKeys()) {
				t.Fatalf("%v has %v", d, m)
			}
			key := fmt.Sprintf("%s%q", m.GetName(), m.GetLabelValues())
			if seen[key] {
				t.Errorf("twice: %s", key)
			}
			seen[key], used[m.GetName()] = true, true
			labels := map[string]string{}
			for i, name := range d.GetLabelKeys() {
				labels[name] = m.GetLabelValues()[i]
			}
			if labels["namespace"] != "shop" || labels["pod"] != "web" || (labels["container"] == "") != (labels["image"] == "") ||
				!strings.HasPrefix(labels["id"], "/kubepods/pod1") || m.GetTimestamp() != 0 {
				t.Errorf("%s: %v", m.GetName(), labels)
			}
			if total := strings.HasSuffix(m.GetName(), "_total") || strings.HasSuffix(m.GetName(), "failcnt"); total != (m.GetMetricType() == runtime.MetricType_COUNTER) &&
				m.GetName() != "container_fs_inodes_total" {
				t.Errorf("%s is a %v", m.GetName(), m.GetMetricType())
			}
		}
	}
	for name := range descriptors {
		if !used[name] {
			t.Errorf("%s is described, and a host that tells everything does not fill it", name)
		}
	}
}

func TestMetricsAreInTheUnitsOfTheirNames(t *testing.T) {
	k := newKubelet(t)
	k.node.fill = everything
	k.running("web", 0)
	pods := k.podMetrics()
	if len(pods) != 1 || len(pods[0].GetContainerMetrics()) != 1 {
		t.Fatalf("%v", pods)
	}
	value := func(metrics []*runtime.Metric, name string, extra ...string) (uint64, bool) {
		for _, m := range metrics {
			if m.GetName() == name && slices.Equal(m.GetLabelValues()[6:], extra) {
				return m.GetValue().GetValue(), true
			}
		}
		return 0, false
	}
	container := pods[0].GetContainerMetrics()[0].GetMetrics()
	for _, c := range []struct {
		name  string
		want  uint64
		extra []string
	}{
		{"container_cpu_usage_seconds_total", 90, []string{"total"}}, // seconds are cut off
		{"container_cpu_user_seconds_total", 60, nil},
		{"container_cpu_cfs_throttled_seconds_total", 1, nil},
		{"container_cpu_cfs_throttled_periods_total", 40, nil},
		{"container_memory_working_set_bytes", 2000, nil},
		{"container_memory_failures_total", 50, []string{"pgfault", "container"}},
		{"container_memory_failures_total", 6, []string{"pgmajfault", "hierarchy"}},
		{"container_oom_events_total", 2, nil},
		{"container_threads", 9, nil},
		{"container_fs_usage_bytes", 4096, []string{"/dev/vda1"}},
		{"container_fs_writes_bytes_total", 8192, []string{"0:524288"}},
		{"container_blkio_device_usage_total", 512, []string{"0:524288", "0", "524288", "Discard"}},
		{"container_pressure_memory_waiting_seconds_total", 22, nil},
		{"container_pressure_io_stalled_seconds_total", 30, nil},
		{"container_spec_cpu_quota", 50_000, nil},
		{"container_spec_cpu_shares", 512, nil},
		{"container_spec_memory_limit_bytes", 1 << 28, nil},
	} {
		if got, ok := value(container, c.name, c.extra...); !ok || got != c.want {
			t.Errorf("%s%v = %d, %v; want %d", c.name, c.extra, got, ok, c.want)
		}
	}
	if got, ok := value(container, "container_start_time_seconds"); !ok || got < 1_800_000_000 || got > 1_800_000_100 {
		t.Errorf("start time %d, %v", got, ok)
	}
	for name, want := range map[string]uint64{"receive_packets_total": 2, "receive_packets_dropped_total": 4, "transmit_errors_total": 7} {
		if got, ok := value(pods[0].GetMetrics(), "container_network_"+name, "eth0"); !ok || got != want {
			t.Errorf("%s = %d, %v", name, got, ok)
		}
		if _, ok := value(container, "container_network_"+name, "eth0"); ok {
			t.Errorf("a container has the pod's %s", name)
		}
	}
}

func TestWhatTheHostDoesNotTellIsLeftOut(t *testing.T) {
	k := newKubelet(t)
	k.node.fill = func(stats *lifecycle.SandboxStats) {
		stats.Interfaces, stats.Cgroup = nil, lifecycle.CgroupStats{}
		for i := range stats.Containers {
			stats.Containers[i].Container.Resources = nil
			stats.Containers[i].Cgroup = lifecycle.CgroupStats{
				CPU: &cgroup.CPUStats{Usage: 1}, Memory: &cgroup.MemoryStats{Usage: 1}, Swap: &cgroup.SwapStats{}, Pids: &cgroup.PidsStats{}, IO: &cgroup.IOStats{},
			}
		}
	}
	k.running("web", 0)
	names := func(metrics []*runtime.Metric) (all []string) {
		for _, m := range metrics {
			all = append(all, strings.TrimPrefix(m.GetName(), "container_"))
		}
		return slices.Compact(all)
	}
	p := k.podMetrics()[0]
	if got := strings.Join(names(p.GetMetrics()), " "); got != "start_time_seconds last_seen" {
		t.Errorf("a pod of which nothing is known has %s", got)
	}
	const want = "cpu_usage_seconds_total memory_usage_bytes memory_working_set_bytes memory_rss memory_cache memory_mapped_file memory_swap " +
		"memory_failures_total processes threads threads_max fs_usage_bytes spec_memory_limit_bytes spec_memory_swap_limit_bytes start_time_seconds last_seen"
	if got := strings.Join(names(p.GetContainerMetrics()[0].GetMetrics()), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMetricsOfAnEndedUnreadableOrRemovedPartLeaveTheOthers(t *testing.T) {
	k := newKubelet(t)
	sandbox, stays := k.running("web", 0)
	start := func(name string) string {
		id := k.create(sandbox, name, 0)
		if _, err := k.StartContainer(t.Context(), &runtime.StartContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	ended, broken := start("job"), start("broken")
	k.create(sandbox, "created", 0)
	if _, err := k.StopContainer(t.Context(), &runtime.StopContainerRequest{ContainerId: ended}); err != nil {
		t.Fatal(err)
	}
	k.node.broken[pod.ID(broken)] = errors.New("the cgroup is going away")
	unreadable, _ := k.running("db", 0)
	k.node.broken[pod.ID(unreadable)] = errors.New("no such device")
	stopped, _ := k.running("old", 0)
	removed, _ := k.running("gone", 0)
	if _, err := k.StopPodSandbox(t.Context(), &runtime.StopPodSandboxRequest{PodSandboxId: stopped}); err != nil {
		t.Fatal(err)
	}
	k.page() // its labels are kept now
	if _, err := k.RemovePodSandbox(t.Context(), &runtime.RemovePodSandboxRequest{PodSandboxId: removed}); err != nil {
		t.Fatal(err)
	}
	pods := k.podMetrics()
	if len(pods) != 1 || pods[0].GetPodSandboxId() != sandbox || len(pods[0].GetMetrics()) == 0 ||
		len(pods[0].GetContainerMetrics()) != 1 || pods[0].GetContainerMetrics()[0].GetContainerId() != stays {
		t.Errorf("%v", pods)
	}
	page := k.page()
	for id, want := range map[string]bool{stays: true, ended: false, broken: false, unreadable: false, stopped: false, removed: false} {
		if strings.Contains(page, id) != want {
			t.Errorf("%s on the page: %v", id, !want)
		}
	}
}

func TestStreamedMetricsHaveEachPodOnceAndNothingIsNoMessage(t *testing.T) {
	k := newKubelet(t)
	stream := func() []*runtime.StreamPodSandboxMetricsResponse {
		messages, err := drain(k.StreamPodSandboxMetrics(t.Context(), &runtime.StreamPodSandboxMetricsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return messages
	}
	if messages := stream(); len(messages) != 0 {
		t.Errorf("%d messages for nothing", len(messages))
	}
	if page := k.page(); page != "" {
		t.Errorf("a page of nothing: %s", page)
	}
	k.node.fill = everything
	const pods = 300
	for n := range pods {
		k.running(fmt.Sprint("web-", n), 0)
	}
	times := map[string]int{}
	messages := stream()
	for _, m := range messages {
		if len(m.GetPodSandboxMetrics()) == 0 {
			t.Error("an empty message")
		}
		for _, p := range m.GetPodSandboxMetrics() {
			times[p.GetPodSandboxId()]++
		}
	}
	if len(times) != pods || len(messages) < 2 {
		t.Errorf("%d pods in %d messages", len(times), len(messages))
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s %d times", id, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := k.ListPodSandboxMetrics(ctx, &runtime.ListPodSandboxMetricsRequest{})
	wantCode(t, "a caller that went away", err, codes.Canceled)
}

func TestPageOfContainersIsTheSameTableWithFractions(t *testing.T) {
	k := newKubelet(t)
	k.node.fill = everything
	k.running("web", 0)
	first := k.page() // fills the labels that the second uses
	page := k.page()
	clock := regexp.MustCompile(`(container_(start_time_seconds|last_seen)\{.*\}) .*`)
	ids := regexp.MustCompile(`[0-9a-f]{64}`)
	plain := func(page string) string { return ids.ReplaceAllString(clock.ReplaceAllString(page, "$1 TIME"), "ID") }
	if plain(first) != plain(page) {
		t.Error("two pages of the same figures differ")
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	descriptors, listed := k.descriptors(), map[string]int{}
	for _, m := range series(k.podMetrics()[0]) {
		listed[m.GetName()]++
		labels := map[string]string{}
		for i, key := range descriptors[m.GetName()].GetLabelKeys() {
			labels[key] = m.GetLabelValues()[i]
		}
		shown, ok := onPage(parsed[m.GetName()], labels)
		if !ok || m.GetName() != "container_last_seen" && m.GetValue().GetValue() != uint64(shown) {
			t.Errorf("%s%v is %d over CRI and %v on the page, %v", m.GetName(), labels, m.GetValue().GetValue(), shown, ok)
		}
	}
	for name := range descriptors {
		if len(parsed[name].GetMetric()) != listed[name] || listed[name] == 0 {
			t.Errorf("%s: %d series on the page, %d over CRI", name, len(parsed[name].GetMetric()), listed[name])
		}
	}
	golden.Check(t, "testdata/container-page.txt", plain(page))
}

func TestContainerMetricsAreDocumentedAsTheyAre(t *testing.T) {
	k := newKubelet(t)
	k.node.fill = everything
	k.running("web", 0)
	list, err := k.ListMetricDescriptors(t.Context(), &runtime.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]runtime.MetricType{}
	for _, m := range series(k.podMetrics()[0]) {
		kinds[m.GetName()] = m.GetMetricType()
	}
	var text strings.Builder
	text.WriteString(`# Container metrics

Generated from cri/families.go by ` + "`go test ./cri -run Documented -update`" + `; do not edit.

` + "`/metrics/containers`" + ` has these families, with cAdvisor's names and labels, and so have the CRI calls
ListMetricDescriptors, ListPodSandboxMetrics and StreamPodSandboxMetrics. Ready pods and running containers
have series; what the host does not tell is left out and never zero. Values over CRI are whole numbers, because
the interface has no others: seconds are cut off there, and the page has the fraction.

Each series has the labels ` + "`" + strings.Join(list.GetDescriptors()[0].GetLabelKeys()[:6], "`, `") + "`" + `. A container's id is its cgroup
and its name is its CRI id. A pod's own series have an empty container and image, the pod's cgroup as id and the
sandbox as name; leave them out with container!="". The page faults of cgroup v2 are counted with all cgroups
below, so that a container has the same number in both scopes, and a pod only the scope hierarchy.

| family | kind | more labels | |
|---|---|---|---|
`)
	for _, d := range list.GetDescriptors() {
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", d.GetName(), strings.ToLower(kinds[d.GetName()].String()), strings.Join(d.GetLabelKeys()[6:], ", "), d.GetHelp())
	}
	golden.Check(t, "../docs/container-metrics.md", text.String())
}

// onPage finds a series by its labels.
func onPage(family *dto.MetricFamily, want map[string]string) (value float64, ok bool) {
	for _, m := range family.GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if maps.Equal(labels, want) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

// still is a node whose figures cost nothing to read.
type still struct {
	*node
	stats []lifecycle.SandboxStats
}

func (s still) SandboxList() []*pod.Sandbox {
	var all []*pod.Sandbox
	for i := range s.stats {
		all = append(all, &s.stats[i].Sandbox)
	}
	return all
}

func (s still) SandboxFigures(_ context.Context, id string) (lifecycle.SandboxStats, error) {
	for _, one := range s.stats {
		if string(one.Sandbox.ID) == id {
			return one, nil
		}
	}
	return lifecycle.SandboxStats{}, pod.ErrNotFound
}

// A page of 500 containers costs less than 10 ms of CPU time, with what their cgroups
// cost left out.
func BenchmarkPageOf500Containers(b *testing.B) {
	n := still{node: newNode()}
	for p := range 100 {
		one := lifecycle.SandboxStats{At: time.Now(), Sandbox: pod.Sandbox{ID: pod.NewID(), State: pod.Ready, CreatedAt: time.Now(),
			Config: pod.SandboxConfig{PodSandboxConfig: sandboxConfig(fmt.Sprint("web-", p))}}}
		for c := range 5 {
			config := containerConfig(fmt.Sprint("app-", c), 0)
			one.Containers = append(one.Containers, lifecycle.Stats{At: time.Now(), Container: pod.Container{
				ID: pod.NewID(), State: pod.Running, StartedAt: time.Now(), Config: pod.ContainerConfig{ContainerConfig: config},
				Image: pod.ImageRef{User: "registry.example/app:v1"}, Resources: &pod.Resources{LinuxContainerResources: config.GetLinux().GetResources()},
			}})
		}
		everything(&one)
		n.stats = append(n.stats, one)
	}
	server, err := cri.New(cri.Config{Pods: n, Images: newShelf(), Subscribe: n.subscribe})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	b.ReportAllocs()
	before := cpuTime()
	for b.Loop() {
		if err := server.WriteContainerMetrics(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	each := (cpuTime() - before) / time.Duration(b.N)
	b.ReportMetric(float64(each.Microseconds())/1000, "cpu-ms/page")
	if b.N > 10 && each > 10*time.Millisecond {
		b.Errorf("a page costs %v of CPU time", each)
	}
}

// cpuTime is what the process has used, the garbage collector's part included.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestNothingOfHugePagesIsDescribedOnAHostWithout(t *testing.T) {
	k := newKubelet(t)
	for _, small := range []bool{false, true} {
		k.node.smallPages = small
		if _, described := k.descriptors()["container_hugetlb_usage_bytes"]; described == small {
			t.Errorf("a host without huge pages: %v, described: %v", small, described)
		}
	}
}
