package client_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// field is a number of a file in /proc/PID.
func field(t testing.TB, pid int, file, key string) (sum int) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key+":" {
			n, _ := strconv.Atoi(f[1])
			sum += n
		}
	}
	return sum
}

// switches counts how often the process's threads were woken.
func switches(t testing.TB, pid int) (n int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		n += field(t, pid, fmt.Sprintf("task/%d/status", tid), "voluntary_ctxt_switches")
	}
	return n
}

func TestIdleMonitorIsNotWoken(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo hello; sleep 1000").start()
	time.Sleep(2 * time.Second) // output is over, buffers are given back
	before := switches(t, b.m.MonitorPID())
	time.Sleep(5 * time.Second)
	if n := switches(t, b.m.MonitorPID()) - before; n > 1 { // the Go runtime's monitor thread looks once a minute
		t.Errorf("%d context switches in five idle seconds", n)
	}
}

func TestMonitorAfterTheEndOfAllStreamsIsNotWoken(t *testing.T) {
	b := newBox(t, "sh", "-c", "exec >&- 2>&-; exec sleep 1000")
	b.spawn.Stdin = true
	b.start()
	time.Sleep(2 * time.Second)
	before := switches(t, b.m.MonitorPID())
	time.Sleep(2 * time.Second)
	if n := switches(t, b.m.MonitorPID()) - before; n > 1 {
		t.Errorf("%d context switches in two idle seconds", n)
	}
}

// The private memory that a monitor may cost, in kB: one that has only its container,
// and one that has written a large log and served execs.
const (
	idleLimit = 560
	busyLimit = 600
)

// -execs=10000 is the long run.
var execs = flag.Int("execs", 300, "execs into the monitor whose memory is measured")

func TestMonitorIsSmall(t *testing.T) {
	idle := newBox(t, "sleep", "1000").start()
	// 2,475,712 lines, and then a burst of 50 MiB: 524,288 lines of 100 bytes.
	busy := newBox(t, "sh", "-c", "seq 2475712; yes "+strings.Repeat("x", 99)+" | head -c 52428800; sleep 1000").start()
	long, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(*execs)*time.Second/2)
	defer cancel()
	busy.ctx = long
	for range *execs {
		busy.exec("true")
	}
	busy.eventually("the whole log", func() bool { s, _ := busy.m.Stats(busy.ctx); return s.LogLines == 3000000 })
	time.Sleep(2 * time.Second)
	for _, m := range []struct {
		name  string
		box   *box
		limit int
	}{{"idle", idle, idleLimit}, {fmt.Sprintf("after 3,000,000 lines of log and %d execs", *execs), busy, busyLimit}} {
		pid := m.box.m.MonitorPID()
		dirty := field(t, pid, "smaps_rollup", "Private_Dirty")
		t.Logf("%s: private dirty %d kB, PSS %d kB, RSS %d kB, %d threads", m.name, dirty,
			field(t, pid, "smaps_rollup", "Pss"), field(t, pid, "smaps_rollup", "Rss"), field(t, pid, "status", "Threads"))
		if m.box == busy {
			stats, err := busy.m.Stats(busy.ctx)
			busy.must(err)
			if stats.Execs != uint64(*execs) || stats.Renewals == 0 || stats.LogLines != 3000000 || stats.LogDropped != 0 {
				t.Errorf("counters %+v", stats)
			}
		}
		if dirty > m.limit {
			t.Errorf("%s: %d kB, limit %d", m.name, dirty, m.limit)
		}
	}
}

func TestMonitorLinksOnlyWhatIsReviewed(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/vitrine-monitor").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := strings.Fields("unsafe math/bits runtime errors unicode/utf8 strconv sync/atomic sync io iter unicode strings bytes cmp slices syscall")
	for _, pkg := range strings.Fields(string(out)) {
		if strings.HasPrefix(pkg, "internal/") || strings.HasPrefix(pkg, "runtime/") || strings.HasPrefix(pkg, "github.com/vitrine-runtime/vitrine/") {
			continue
		}
		if !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+pkg+" ") {
			t.Errorf("the monitor links %s: it is paid for once per container", pkg)
		}
	}
}

func TestDescriptorsDoNotGrow(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	count := func() int {
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.m.MonitorPID()))
		return len(fds)
	}
	use := func() {
		b.exec("true")
		b.must(b.m.ReopenLog(b.ctx))
	}
	use() // what is opened once, at the first use, is no growth
	before := count()
	for range 20 {
		use()
	}
	// What the first use still had to close may have been counted.
	b.eventually("no more descriptors than before", func() bool { return count() <= before })
}
