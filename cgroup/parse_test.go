package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// fakeV2 is a Cgroups whose unified hierarchy is a directory of plain files with
// what a v2 kernel shows. It stands in for what is computed from files, not for
// what the kernel does with them.
func fakeV2(t *testing.T, files map[string]string) (c *Cgroups, fsPath, dir string) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "pod", "c")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, root, map[string]string{"cgroup.controllers": "cpuset cpu io memory pids\n"})
	write(t, dir, files)
	return &Cgroups{config: Config{Driver: Cgroupfs}, mounts: mounts{v2: root}}, "/pod/c", dir
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMountsAreFoundWhereverTheyAre(t *testing.T) {
	const (
		hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n" +
			"33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
			"34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
			"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
		elsewhere = "33 31 0:30 / /var/lib/x/my\\040memory rw - cgroup none rw,memory\n"
	)
	for name, c := range map[string]struct {
		info string
		mode Mode
		v1   map[string]string
		v2   string
	}{
		"v2":         {"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n", V2, map[string]string{}, "/sys/fs/cgroup"},
		"hybrid":     {hybrid, Hybrid, map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory", "name=systemd": "/sys/fs/cgroup/systemd"}, "/sys/fs/cgroup/unified"},
		"v1":         {"33 31 0:30 / /cg/memory rw - cgroup cgroup rw,memory\n", V1, map[string]string{"memory": "/cg/memory"}, ""},
		"second":     {elsewhere + hybrid, Hybrid, map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory", "name=systemd": "/sys/fs/cgroup/systemd"}, "/sys/fs/cgroup/unified"},
		"escaped":    {elsewhere, V1, map[string]string{"memory": "/var/lib/x/my memory"}, ""},
		"named only": {"34 31 0:31 / /x rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /u rw - cgroup2 cgroup2 rw\n", V2, map[string]string{"name=systemd": "/x"}, "/u"},
		"garbage":    {"\n- - -\ncgroup2\n1 2 3 - cgroup2\n", V1, map[string]string{}, ""},
	} {
		m := parseMounts(c.info)
		if m.mode() != c.mode || !reflect.DeepEqual(m.v1, c.v1) || m.v2 != c.v2 {
			t.Errorf("%s: %s %+v", name, m.mode(), m)
		}
	}
}

func TestKillsBelowAreCountedWhereTheKernelDoes(t *testing.T) {
	const mount = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_localevents\n"
	c, path, _ := fakeV2(t, map[string]string{"memory.events": "oom 3\noom_kill 2\n"})
	if n, err := c.OOMKillsBelow(path); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	c.mounts.localEvents = parseMounts(mount).localEvents
	if _, err := c.OOMKillsBelow(path); !errors.Is(err, pod.ErrUnsupported) {
		t.Errorf("with memory_localevents: %v", err)
	}
	if _, err := (&Cgroups{mounts: mounts{v1: map[string]string{"memory": t.TempDir()}}}).OOMKillsBelow(path); !errors.Is(err, pod.ErrUnsupported) {
		t.Errorf("on v1: %v", err)
	}
}

func TestParentsThatNoSliceCanBeMadeForAreRefused(t *testing.T) {
	g := &Cgroups{config: Config{Driver: Systemd}}
	for _, parent := range []string{"/a.slice/podx", "/a.slice/y/../podx", "/a.slice/podx/", "/a--b.slice", "/a.slice/a-.slice", ".slice"} {
		if made, err := g.CreatePod(t.Context(), parent, Resources{}); made || !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%q: %v, %v", parent, made, err)
		}
	}
}

func TestContainerPathsOfBothDrivers(t *testing.T) {
	for _, c := range []struct{ driver, parent, spec, fs, pod string }{
		{Cgroupfs, "/kubepods/burstable/pod1-2", "/kubepods/burstable/pod1-2/ID", "/kubepods/burstable/pod1-2/ID", "/kubepods/burstable/pod1-2"},
		{Cgroupfs, "kubepods", "/kubepods/ID", "/kubepods/ID", "/kubepods"},
		{Cgroupfs, "", "/vitrine/ID", "/vitrine/ID", "/vitrine"},
		{Cgroupfs, "/a/../../b", "/b/ID", "/b/ID", "/b"},
		{Systemd, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice", "kubepods-burstable-pod1_2.slice:vitrine:ID",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/vitrine-ID.scope",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"},
		{Systemd, "kubepods-besteffort-podX.slice", "kubepods-besteffort-podX.slice:vitrine:ID",
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice/vitrine-ID.scope",
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice"},
		{Systemd, "/kubepods/burstable/pod1-2", "kubepods-burstable-pod1_2.slice:vitrine:ID",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/vitrine-ID.scope",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"},
		{Systemd, "", "vitrine.slice:vitrine:ID", "/vitrine.slice/vitrine-ID.scope", "/vitrine.slice"},
		{Systemd, "-.slice", "-.slice:vitrine:ID", "/vitrine-ID.scope", "/"},
	} {
		g := &Cgroups{config: Config{Driver: c.driver}}
		spec, fs := g.ContainerPath(c.parent, "ID")
		if spec != c.spec || fs != c.fs || g.PodPath(c.parent) != c.pod {
			t.Errorf("%s %q: %q, %q, %q", c.driver, c.parent, spec, fs, g.PodPath(c.parent))
		}
	}
}

func TestV2StatsAreReadFromWhatTheKernelWrites(t *testing.T) {
	const pressure = "some avg10=1.50 avg60=0.25 avg300=0.10 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=56\n"
	c, fsPath, _ := fakeV2(t, map[string]string{
		"cpu.stat":     "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\ncore_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 4\nthrottled_usec 77\n",
		"cpu.pressure": pressure, "memory.pressure": pressure, "io.pressure": pressure,
		"memory.current": "1000\n", "memory.max": "4000\n", "memory.peak": "1500\n", "memory.min": "600\n", "memory.swap.current": "30\n", "memory.swap.max": "max\n",
		"memory.stat":   "anon 400\nfile 500\nfile_mapped 50\ninactive_file 300\nactive_file 150\npgfault 9\npgmajfault 2\n",
		"memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n",
		"pids.current":  "5\n", "pids.max": "max\n", "cgroup.procs": "0\n11\n12\n",
		"io.stat": "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 rbytes=10 wbytes=0 rios=1 wios=0\n7:0 \nbad x=1\n",
	})
	s, err := c.Stats(fsPath)
	if err != nil {
		t.Fatal(err)
	}
	psi := &PSI{PSILine{1.5, 0.25, 0.1, 1234000}, PSILine{0, 0, 0.01, 56000}}
	for _, at := range []*time.Time{&s.CPU.At, &s.Memory.At, &s.Swap.At, &s.Pids.At, &s.IO.At} {
		if at.IsZero() {
			t.Error("a part without its time")
		}
		*at = time.Time{}
	}
	s.Pids.FileDescriptors, s.Pids.HasFileDescriptors, s.Pids.Sockets, s.Pids.HasSockets = 0, false, 0, false // of whatever has these pids here
	want := Stats{
		CPU: &CPUStats{Usage: 1500000, User: 1000000, System: 500000, Periods: 10, ThrottledPeriods: 4, ThrottledTime: 77000,
			HasModes: true, HasBandwidth: true, PSI: psi},
		Memory: &MemoryStats{Usage: 1000, WorkingSet: 700, RSS: 400, Cache: 500, MappedFile: 50, Limit: 4000, MaxUsage: 1500, FailCount: 3,
			HasMaxUsage: true, HasFailCount: true, PageFaults: 9, MajorPageFaults: 2, OOMKills: 1, HasOOMKills: true,
			ActiveFile: 150, InactiveFile: 300, HasFileLists: true, Reservation: 600, HasReservation: true, PSI: psi},
		Swap: &SwapStats{Usage: 30},
		Pids: &PidsStats{Threads: 5, Processes: 2},
		IO: &IOStats{PSI: psi, Devices: []DeviceIO{{Major: 8, ReadBytes: 10, ReadOps: 1},
			{Major: 8, Minor: 16, ReadBytes: 1, WriteBytes: 2, ReadOps: 3, WriteOps: 4, DiscardBytes: 5, DiscardOps: 6}}},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v %+v %+v %+v\nwant %+v %+v", *s.CPU, *s.Memory, *s.Pids, *s.IO, *want.CPU, *want.Memory)
	}
}

func TestMissingControllersLeavePartsOut(t *testing.T) {
	c, fsPath, _ := fakeV2(t, map[string]string{"cpu.stat": "usage_usec 5\n", "cgroup.procs": ""})
	s, err := c.Stats(fsPath)
	if err != nil || s.CPU == nil || s.CPU.PSI != nil || s.Memory != nil || s.Swap != nil || s.Pids != nil || s.IO != nil || s.Hugetlb != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestMalformedFilesAreErrorsThatNameThem(t *testing.T) {
	c, fsPath, _ := fakeV2(t, map[string]string{"memory.stat": "anon 1\n", "memory.current": "many\n", "memory.max": "max"})
	if _, err := c.Stats(fsPath); err == nil || !strings.Contains(err.Error(), "memory.current") || errors.Is(err, pod.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestHugepageSizesAreNamedAsTheKernelDoes(t *testing.T) {
	for kib, want := range map[uint64]string{4: "4KB", 64: "64KB", 2048: "2MB", 1048576: "1GB", 16777216: "16GB"} {
		if got := sizeName(kib); got != want {
			t.Errorf("%d KiB: %s", kib, got)
		}
	}
	if entries, err := os.ReadDir("/sys/kernel/mm/hugepages"); err == nil && len(entries) != len(hostHugepageSizes()) {
		t.Errorf("%v of %d", hostHugepageSizes(), len(entries))
	}
}

func TestOwnCgroupsOfAllModes(t *testing.T) {
	got := parseOwn("3:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\ngarbage\n")
	want := map[string]string{"cpu": "/a", "cpuacct": "/a", "name=systemd": "/b:c", "": "/d"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("some avg10=1 total=2\n8:0 rbytes=1\nkey 5\n1 2 3 4 /x - cgroup cgroup rw,memory\n0::/a\n")
	f.Fuzz(func(t *testing.T, text string) { // property: no text panics, and devices come out sorted
		parsePSI(text)
		parseKeys(text)
		parseOwn(text)
		parseMounts(text)
		devices := parseIOStat(text)
		if !slices.IsSortedFunc(devices, func(a, b DeviceIO) int {
			return int(a.Major) - int(b.Major) + (int(a.Minor)-int(b.Minor))*boolInt(a.Major == b.Major)
		}) {
			t.Errorf("%v", devices)
		}
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestParentsForMonitorsAreSlicesOrAbsolutePaths(t *testing.T) {
	for parent, ok := range map[string]bool{
		"system.slice": true, "a-b.slice": true, "-.slice": true, "/": false, "/a/b": true, "/a.slice/a-b.slice": true,
		"": false, "pods": false, "a/b": false, "//": false, "/a/": true, "/..": false, "/a/../b": false, "../a.slice": false,
		".slice": false, "-a.slice": false, "a-.slice": false, "a--b.slice": false,
		"/a\nb": false, "/" + strings.Repeat("a", 255): true, "/" + strings.Repeat("a", 256): false,
	} {
		if err := CheckParent(parent); (err == nil) != ok || err != nil && !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%q: %v", parent, err)
		}
	}
}
