package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// freezable is an ext4 of its own, of which freeze lets every write wait until thaw
// (FIFREEZE and FITHAW of linux/fs.h).
func freezable(t *testing.T) (dir string, freeze, thaw func()) {
	t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("the kernel has no loop devices: ", err)
	}
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "volume")
	for _, args := range [][]string{{"mkdir", dir}, {"truncate", "-s", "64M", image}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(harness.Scale(20 * time.Second)); unix.Unmount(dir, 0) != nil; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Error("the volume cannot be unmounted")
				unix.Unmount(dir, unix.MNT_DETACH)
				return
			}
		}
	})
	frozen := false
	ioctl := func(request uint) {
		t.Helper()
		f := harness.Must(os.Open(dir))(t)
		defer f.Close()
		if err := unix.IoctlSetInt(int(f.Fd()), request, 0); err != nil {
			t.Fatalf("ioctl %#x: %v", request, err)
		}
	}
	thaw = func() {
		if frozen {
			frozen = false
			ioctl(0xc0045878)
		}
	}
	freeze = func() {
		ioctl(0xc0045877)
		frozen = true
		t.Cleanup(thaw) // before whatever waits for a process that writes
	}
	return dir, freeze, thaw
}

// stalledSeconds is the metric.
func (n *node) stalledSeconds() float64 {
	n.Helper()
	for line := range strings.Lines(harness.Must(n.Metrics())(n)) {
		if value, found := strings.CutPrefix(line, "vitrine_log_write_stall_seconds_total "); found {
			return harness.Must(strconv.ParseFloat(strings.TrimSpace(value), 64))(n)
		}
	}
	n.Fatal("the metrics have no stalls")
	return 0
}

func TestALogThatDoesNotAnswerIsAnEventAndTimeInAMetric(t *testing.T) {
	volume, freeze, thaw := freezable(t)
	n := start(t, harness.Options{Config: "[runtime.log]\nstall_ms = 200\n"})
	if s := n.stalledSeconds(); s != 0 {
		t.Errorf("%v s before anything stalled", s)
	}
	p := n.HostPod("stalling")
	p.LogDirectory = filepath.Join(volume, "pod")
	n.must(os.Mkdir(p.LogDirectory, 0o755))
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id, c := n.run(sandbox, p, "c", "sh", "-c", "trap 'exit 0' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done")
	waitLog(t, p, c, "line")
	told := func() int { return strings.Count(n.vitrine("events"), "container.logstalled") }
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(harness.Scale(60 * time.Second)); !ok(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("did not happen: %s", what)
			}
		}
	}
	freeze()
	until("the stall is told", func() bool { return told() == 1 })
	first := n.stalledSeconds()
	until("time passes", func() bool { return n.stalledSeconds() > first+0.5 })
	n.must(n.Kill9())
	n.must(n.Start(n.ctx))
	until("the next daemon knows of it", func() bool { return n.stalledSeconds() > 0 })
	thaw()
	until("it is over", func() bool {
		s := n.stalledSeconds()
		time.Sleep(time.Second)
		return n.stalledSeconds() == s && s > 0
	})
	if got := told(); got != 1 {
		t.Errorf("one stall was told %d times", got)
	}
	if out := n.vitrine("events"); !strings.Contains(out, fmt.Sprintf("the file system of %s does not answer", harness.LogPath(p, c))) {
		t.Errorf("events:\n%s", out)
	}
	n.must(n.cri.Stop(n.ctx, id, 20))
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	if got := told(); got != 1 {
		t.Errorf("with its end one stall was told %d times", got)
	}
	n.nothingLeft()
}
