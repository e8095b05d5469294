package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

// limits reads back what is in force, in the words of Resources.
func limits(t *testing.T, c *Cgroups, fsPath string) Resources {
	t.Helper()
	s, err := c.Stats(fsPath)
	if err != nil {
		t.Fatal(err)
	}
	r := Resources{Memory: signed(s.Memory.Limit), Pids: signed(s.Pids.Limit)}
	if s.Swap != nil {
		r.MemorySwap = -1
		if r.Memory != -1 && (s.Swap.Limit > 0 || !unlimitedSwap(t, c, fsPath)) {
			r.MemorySwap = r.Memory + int64(s.Swap.Limit)
		}
	}
	if c.Mode() == V2 {
		text, err := readFile(c.dir("cpu", fsPath), "cpu.max")
		if err != nil {
			t.Fatal(err)
		}
		quota, period, _ := strings.Cut(strings.TrimSpace(text), " ")
		r.CPUPeriod, _ = strconv.ParseUint(period, 10, 64)
		if r.CPUQuota, err = strconv.ParseInt(quota, 10, 64); err != nil {
			r.CPUQuota = -1
		}
		return r
	}
	var errs [3]error
	r.CPUPeriod, errs[0] = readUint(c.dir("cpu", fsPath), "cpu.cfs_period_us")
	r.CPUQuota, errs[1] = readInt(c.dir("cpu", fsPath), "cpu.cfs_quota_us")
	r.CPUShares, errs[2] = readUint(c.dir("cpu", fsPath), "cpu.shares")
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return r
}

func unlimitedSwap(t *testing.T, c *Cgroups, fsPath string) bool {
	t.Helper()
	name, controller := "memory.memsw.limit_in_bytes", "memory"
	if c.Mode() == V2 {
		name = "memory.swap.max"
	}
	text, err := readFile(c.dir(controller, fsPath), name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	return err != nil || n >= unlimited
}

// TestEveryOrderOfMemoryLimitsCanBeReached walks between limits that differ in both
// directions: on v1 the sum of memory and swap may never be below memory on the way.
func TestEveryOrderOfMemoryLimitsCanBeReached(t *testing.T) {
	c, parent := open(t)
	if !c.SwapAccounting() {
		t.Skip("no swap accounting: memory.memsw or memory.swap is missing")
	}
	fsPath := parent + "/a"
	c.makeForTest(t, fsPath, Resources{})
	const mib = 1 << 20
	states := []Resources{
		{Memory: 32 * mib, MemorySwap: 32 * mib}, {Memory: 64 * mib, MemorySwap: 96 * mib}, {Memory: 16 * mib, MemorySwap: 128 * mib},
		{Memory: 96 * mib, MemorySwap: 96 * mib}, {Memory: 64 * mib, MemorySwap: -1}, {Memory: -1, MemorySwap: -1},
	}
	for _, from := range states {
		for _, to := range states {
			for _, r := range []Resources{from, to} {
				if err := c.Update(fsPath, r); err != nil {
					t.Fatalf("%+v → %+v: %v", from, to, err)
				}
			}
			if got := limits(t, c, fsPath); got.Memory != to.Memory || got.MemorySwap != to.MemorySwap {
				t.Errorf("%+v → %+v: got memory %d, with swap %d", from, to, got.Memory, got.MemorySwap)
			}
		}
	}
}

func TestMemoryAloneKeepsTheSwapThatMayBeUsed(t *testing.T) {
	c, parent := open(t)
	if !c.SwapAccounting() {
		t.Skip("no swap accounting: memory.memsw or memory.swap is missing")
	}
	fsPath := parent + "/a"
	const mib = 1 << 20
	c.makeForTest(t, fsPath, Resources{Memory: 64 * mib, MemorySwap: 80 * mib})
	for _, step := range []struct{ memory, wantTotal int64 }{
		{128 * mib, 144 * mib}, {32 * mib, 48 * mib}, {-1, -1}, {64 * mib, -1},
	} {
		if err := c.Update(fsPath, Resources{Memory: step.memory}); err != nil {
			t.Fatal(err)
		}
		got := limits(t, c, fsPath)
		if c.Mode() == V2 && step.memory == -1 {
			continue // swap.max stays 16 MiB, which no total can express
		}
		want := step.wantTotal
		if c.Mode() == V2 && want == -1 {
			want = 80 * mib
		}
		if got.Memory != step.memory || got.MemorySwap != want {
			t.Errorf("memory %d: got %d with swap %d, want %d", step.memory, got.Memory, got.MemorySwap, want)
		}
	}
}

func TestCPUQuotaFitsTheParentOnTheWay(t *testing.T) {
	c, parent := open(t)
	c.makeForTest(t, parent, Resources{CPUPeriod: 100000, CPUQuota: 50000})
	c.makeForTest(t, parent+"/a", Resources{})
	states := []Resources{
		{CPUPeriod: 100000, CPUQuota: 50000}, {CPUPeriod: 10000, CPUQuota: 5000}, {CPUPeriod: 200000, CPUQuota: 20000},
		{CPUPeriod: 1000000, CPUQuota: 500000}, {CPUPeriod: 50000, CPUQuota: 1000},
	}
	for _, from := range states {
		for _, to := range states {
			for _, r := range []Resources{from, to} {
				if err := c.Update(parent+"/a", r); err != nil {
					t.Fatalf("%+v → %+v: %v", from, to, err)
				}
			}
			if got := limits(t, c, parent+"/a"); got.CPUPeriod != to.CPUPeriod || got.CPUQuota != to.CPUQuota {
				t.Errorf("%+v → %+v: got %d of %d", from, to, got.CPUQuota, got.CPUPeriod)
			}
		}
	}
	if err := c.Update(parent+"/a", Resources{CPUQuota: -1}); err != nil || limits(t, c, parent+"/a").CPUQuota != -1 {
		t.Errorf("lifting the quota: %v", err)
	}
}

// TestFailedUpdateLeavesAllOldValues: the first limits of each update are good, the
// last one is not.
func TestFailedUpdateLeavesAllOldValues(t *testing.T) {
	c, parent := open(t)
	fsPath := parent + "/a"
	const mib = 1 << 20
	start := Resources{Memory: 128 * mib, CPUPeriod: 100000, CPUQuota: 50000, Pids: 50, CPUShares: 1000}
	c.makeForTest(t, fsPath, start)
	p := startChild(t, c, fsPath)
	p.do("hold 48")
	before := limits(t, c, fsPath)
	for name, bad := range map[string]struct {
		update Resources
		kind   error
		text   string
	}{
		"memory below what is used": {Resources{CPUShares: 2000, Pids: 60, CPUQuota: 60000, Memory: 16 * mib}, pod.ErrState, "cannot be reclaimed"},
		"unknown cpu":               {Resources{Pids: 60, CPUShares: 2000, CpusetCpus: "0-4000"}, pod.ErrInvalid, "cpuset.cpus"},
		"quota below the minimum":   {Resources{CPUShares: 2000, CPUQuota: 10}, pod.ErrInvalid, "cpu"},
		"swap below memory":         {Resources{Pids: 60, Memory: 64 * mib, MemorySwap: 32 * mib}, pod.ErrInvalid, "swap"},
		"swap below present memory": {Resources{Pids: 60, MemorySwap: 32 * mib}, pod.ErrInvalid, "swap"},
		"too many tasks":            {Resources{CPUShares: 2000, Pids: 1 << 40}, pod.ErrInvalid, "pids.max"},
		"below minus one":           {Resources{Pids: 60, Memory: -2}, pod.ErrInvalid, "-1"},
	} {
		err := c.Update(fsPath, bad.update)
		if !errors.Is(err, bad.kind) || !strings.Contains(err.Error(), bad.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if after := limits(t, c, fsPath); !same(after, before) {
			t.Errorf("%s: left %+v, was %+v", name, after, before)
		}
	}
	if c.Mode() != V2 {
		if err := c.Update(fsPath, Resources{Unified: map[string]string{"memory.high": "1"}}); !errors.Is(err, pod.ErrUnsupported) {
			t.Errorf("unified on %s: %v", c.Mode(), err)
		}
	}
	p.do("burn 1") // nobody was killed
}

func same(a, b Resources) bool {
	return a.Memory == b.Memory && a.MemorySwap == b.MemorySwap && a.CPUPeriod == b.CPUPeriod && a.CPUQuota == b.CPUQuota &&
		a.CPUShares == b.CPUShares && a.Pids == b.Pids
}

func TestMemoryCanGoBelowWhatIsOnlyPageCache(t *testing.T) {
	c, parent := open(t)
	fsPath := parent + "/a"
	const mib = 1 << 20
	c.makeForTest(t, fsPath, Resources{Memory: 256 * mib})
	dir, err := os.MkdirTemp("/var/tmp", "cgroup-test") // a tmpfs would be no page cache
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "cache")
	cmd := startChild(t, c, fsPath)
	cmd.do("file " + file)
	s, err := c.Stats(fsPath)
	if err != nil {
		t.Fatal(err)
	}
	if s.Memory.Cache < 40*mib {
		t.Skipf("the file system of %s keeps no page cache: %d bytes", file, s.Memory.Cache)
	}
	if err := c.Update(fsPath, Resources{Memory: 32 * mib}); err != nil {
		t.Fatal(err)
	}
	if s, err = c.Stats(fsPath); err != nil || s.Memory.Usage > 32*mib {
		t.Errorf("usage %d, %v", s.Memory.Usage, err)
	}
}

func TestV2FilesAreWrittenAsTheKernelReadsThem(t *testing.T) {
	c, fsPath, dir := fakeV2(t, map[string]string{
		"cpu.max": "max 100000\n", "cpu.weight": "100\n", "memory.max": "max\n", "memory.current": "100000\n", "memory.swap.max": "max\n",
		"memory.stat": "inactive_file 40000\nactive_file 10000\nslab_reclaimable 5000\n", "pids.max": "max\n", "memory.high": "max\n",
		"cpuset.cpus": "\n", "memory.oom.group": "0\n",
	})
	steps, err := c.plan(fsPath, Resources{
		CPUShares: 1024, CPUQuota: 20000, Memory: 1 << 20, MemorySwap: 3 << 20, Pids: 7, CpusetCpus: "0-1",
		Unified: map[string]string{"memory.high": "1000", "memory.oom.group": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		if s.dir != dir {
			t.Errorf("dir %s", s.dir)
		}
		got = append(got, s.file+"="+s.value)
	}
	want := "cpuset.cpus=0-1 cpu.weight=100 cpu.max=20000 100000 pids.max=7 memory.swap.max=2097152 memory.max=1048576" +
		" memory.high=1000 memory.oom.group=1"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	for name, bad := range map[string]struct {
		r    Resources
		kind error
	}{
		"below what is used":      {Resources{Memory: 44000}, pod.ErrState},
		"file of the cgroup core": {Resources{Unified: map[string]string{"cgroup.procs": "1"}}, pod.ErrInvalid},
		"path":                    {Resources{Unified: map[string]string{"memory.x/../../y": "1"}}, pod.ErrInvalid},
	} {
		if _, err := c.plan(fsPath, bad.r); !errors.Is(err, bad.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.plan(fsPath, Resources{Memory: 45000}); err != nil {
		t.Errorf("exactly what is used without caches: %v", err)
	}
	if err := c.Update(fsPath, Resources{Unified: map[string]string{"memory.high": "5", "rdma.max": "1"}}); !errors.Is(err, pod.ErrUnsupported) {
		t.Errorf("missing controller: %v", err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "memory.high")); !strings.HasPrefix(string(text), "max") {
		t.Errorf("memory.high was not restored: %q", text)
	}
}

func TestMemoryStepsV1AreOrderedByTheOldTotal(t *testing.T) {
	for name, c := range map[string]struct {
		limit, total string
		r            Resources
		want         string
	}{
		"grow":            {"100", "200", Resources{Memory: 300, MemorySwap: 400}, "memsw=400 limit=300"},
		"shrink":          {"300", "400", Resources{Memory: 100, MemorySwap: 200}, "limit=100 memsw=200"},
		"cross":           {"100", "400", Resources{Memory: 300, MemorySwap: 300}, "limit=300 memsw=300"},
		"from none":       {"9223372036854771712", "9223372036854771712", Resources{Memory: 100, MemorySwap: 200}, "limit=100 memsw=200"},
		"to none":         {"100", "200", Resources{Memory: -1}, "memsw=-1 limit=-1"},
		"keeps no swap":   {"100", "100", Resources{Memory: 300}, "memsw=300 limit=300"},
		"keeps some swap": {"300", "400", Resources{Memory: 100}, "limit=100 memsw=200"},
		"only total":      {"100", "200", Resources{MemorySwap: 150}, "memsw=150"},
		"keeps unlimited": {"100", "9223372036854771712", Resources{Memory: 200}, "memsw=-1 limit=200"},
		"limit from none": {"9223372036854771712", "9223372036854771712", Resources{Memory: 200}, "memsw=-1 limit=200"},
	} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"memory.limit_in_bytes": c.limit, "memory.memsw.limit_in_bytes": c.total})
		steps, err := memoryStepsV1(dir, c.r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, s := range steps {
			got = append(got, strings.NewReplacer("memory.memsw.limit_in_bytes", "memsw", "memory.limit_in_bytes", "limit").Replace(s.file)+"="+s.value)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
	}
}
