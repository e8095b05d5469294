package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// openBelow lists this process's open files of a cgroup and those below it.
func openBelow(t *testing.T, fsPath string) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if path, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(path, fsPath+"/") {
			open = append(open, path)
		}
	}
	return open
}

func TestFilesStayOpenBetweenReadingsAndNotBeyondTheCgroup(t *testing.T) {
	c, parent := open(t)
	c.makeForTest(t, parent+"/a", Resources{})
	startChild(t, c, parent+"/a")
	first, err := c.Read(parent+"/a", Usage)
	if err != nil {
		t.Fatal(err)
	}
	if first.Memory == nil || first.CPU == nil || first.Pids != nil || first.Memory.HasOOMKills {
		t.Errorf("usage: %+v", first)
	}
	usage := len(openBelow(t, parent))
	if _, err := c.Stats(parent + "/a"); err != nil {
		t.Fatal(err)
	}
	all := len(openBelow(t, parent))
	for range 3 {
		if _, err := c.Stats(parent + "/a"); err != nil {
			t.Fatal(err)
		}
	}
	if again := len(openBelow(t, parent)); usage == 0 || 2*usage > all || again != all || again != c.kept.open {
		t.Errorf("%d files are open after reading the usage, %d after reading everything, %d later, %d counted", usage, all, again, c.kept.open)
	}
	if err := c.Kill(parent + "/a"); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(parent + "/a"); err != nil {
		t.Fatal(err)
	}
	if left := openBelow(t, parent); len(left) != 0 || c.kept.open != 0 || len(c.kept.groups) != 0 {
		t.Errorf("open after the removal: %v, %d counted in %d cgroups", left, c.kept.open, len(c.kept.groups))
	}
}

func TestFiguresAreOfTheCgroupThatIsThereNow(t *testing.T) {
	c, parent := open(t)
	other, err := New(Config{Driver: Cgroupfs}) // somebody else, who tells nobody
	if err != nil {
		t.Fatal(err)
	}
	c.makeForTest(t, parent, Resources{})
	c.makeForTest(t, parent+"/a", Resources{Pids: 11})
	for _, limit := range []uint64{11, 12} {
		if s, err := c.Stats(parent + "/a"); err != nil || s.Pids.Limit != limit {
			t.Errorf("%+v, %v, want a limit of %d", s.Pids, err, limit)
		}
		if err := other.Remove(parent + "/a"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Stats(parent + "/a"); !errors.Is(err, pod.ErrNotFound) {
			t.Errorf("removed by somebody else: %v", err)
		}
		if left := openBelow(t, parent+"/a"); len(left) != 0 {
			t.Errorf("a reading found that it was gone and left %v", left)
		}
		c.makeForTest(t, parent+"/a", Resources{Pids: 12})
	}
	if _, err := c.Stats(parent + "/a"); err != nil {
		t.Fatal(err)
	}
	if c.Forget(parent + "/a"); len(openBelow(t, parent+"/a")) != 0 {
		t.Errorf("forgotten, and %v are open", openBelow(t, parent+"/a"))
	}
}

func TestUnreadFilesAreClosedAndTheirNumberIsBounded(t *testing.T) {
	c, parent := open(t)
	for _, name := range []string{"/a", "/b"} {
		c.makeForTest(t, parent+name, Resources{})
		if _, err := c.Read(parent+name, Usage); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * keptFor)
	c.kept.groups[parent+"/a"].read, c.kept.swept = long, long
	if _, err := c.Read(parent+"/b", Usage); err != nil {
		t.Fatal(err)
	}
	if left := openBelow(t, parent+"/a"); len(left) != 0 || len(openBelow(t, parent+"/b")) == 0 {
		t.Errorf("unread for long, and %v are open", left)
	}
	c.kept.open += maxKept
	if s, err := c.Read(parent+"/a", Usage); err != nil || s.Memory == nil {
		t.Errorf("beyond the bound: %+v, %v", s, err)
	}
	if c.kept.open -= maxKept; len(openBelow(t, parent+"/a")) != 0 {
		t.Errorf("beyond the bound %v are open", openBelow(t, parent+"/a"))
	}
}

func TestReadingWhileRemovingLeavesNothingOpen(t *testing.T) {
	c, parent := open(t)
	c.makeForTest(t, parent, Resources{})
	for i := range 20 {
		path := fmt.Sprint(parent, "/", i)
		c.makeForTest(t, path, Resources{})
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				for {
					if _, err := c.Stats(path); err != nil {
						if !errors.Is(err, pod.ErrNotFound) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		if err := c.Remove(path); err != nil {
			t.Error(err)
		}
		readers.Wait()
		if left := openBelow(t, path); len(left) != 0 {
			t.Fatalf("%d: %v", i, left)
		}
	}
	if c.kept.open != 0 || len(c.kept.groups) != 0 {
		t.Errorf("%d descriptors in %d cgroups are counted", c.kept.open, len(c.kept.groups))
	}
}

func TestKeysAreFoundWhole(t *testing.T) {
	k := keys("total_pgfault 7\npgfault 5\nlast word\npgfault_x 9\nend 3")
	for name, want := range map[string]uint64{"pgfault": 5, "total_pgfault": 7, "pgfault_x": 9, "end": 3} {
		if n, found := k.get(name); n != want || !found {
			t.Errorf("%s is %d, %v", name, n, found)
		}
	}
	for _, name := range []string{"last", "fault", "pgfau", "word", "total"} {
		if n, found := k.get(name); found {
			t.Errorf("%s is %d", name, n)
		}
	}
}

// What one container costs a list of figures, and a scrape.
func BenchmarkRead(b *testing.B) {
	for name, extent := range map[string]Extent{"usage": Usage, "figures": Figures, "everything": Everything} {
		for _, keep := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s,kept=%v", name, keep), func(b *testing.B) {
				c, err := New(Config{Driver: Cgroupfs})
				if err != nil {
					b.Fatal(err)
				}
				path := fmt.Sprintf("/vitrine-bench-%d", os.Getpid())
				if _, err := c.CreatePod(b.Context(), path, Resources{}); err != nil {
					b.Fatal(err)
				}
				process := exec.Command("/bin/sleep", "600")
				if err := process.Start(); err != nil {
					b.Fatal(err)
				}
				for _, dir := range c.Dirs(path) {
					_ = os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(process.Process.Pid)), 0) // not all have it
				}
				defer func() { process.Process.Kill(); process.Wait(); c.Remove(path) }()
				b.ReportAllocs()
				var before, after unix.Rusage
				unix.Getrusage(unix.RUSAGE_SELF, &before)
				for b.Loop() {
					if _, err := c.Read(path, extent); err != nil {
						b.Fatal(err)
					}
					if !keep {
						c.Forget(path)
					}
				}
				unix.Getrusage(unix.RUSAGE_SELF, &after)
				used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
				b.ReportMetric(float64(used)/1000/float64(b.N), "cpu-µs/op")
			})
		}
	}
}
