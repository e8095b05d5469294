package e2e

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// spareOf returns the process of the node's spare monitor, 0 without one. One that is there is
// complete: it has a launcher.
func (n *node) spareOf() int {
	place := filepath.Join(n.State(), "spare")
	monitor := findProcess("vitrine-monitor", place)
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); monitor != 0 && findProcess("vitrine-launch", place) == 0; monitor = findProcess("vitrine-monitor", place) {
		if time.Now().After(deadline) {
			n.Fatalf("the spare monitor %d has no launcher", monitor)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return monitor
}

// says waits for a line of the metrics page.
func (n *node) says(line string) {
	n.Helper()
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(harness.Must(n.Metrics())(n), line+"\n") {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("no %q on the metrics page", line)
		}
	}
}

func TestSpareMonitorServesTheNextContainer(t *testing.T) {
	n := start(t, harness.Options{})
	p := n.HostPod("spared")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	used := map[int]bool{}
	for _, name := range []string{"first", "second"} {
		n.says("vitrine_monitor_spares_ready 1")
		spare := n.spareOf()
		if spare == 0 || used[spare] {
			t.Fatalf("the spare before the %s container is %d, those before were %v", name, spare, used)
		}
		id, c := n.run(sandbox, p, name, "sh", "-c", "echo "+name+"; exec sleep 1000")
		n.stdout(p, c, name+"\n")
		if got := n.monitorOf(id); got != spare {
			t.Errorf("the monitor of the %s container is %d, the spare was %d", name, got, spare)
		}
		used[spare] = true
	}
	n.says(`vitrine_monitor_spares_total{outcome="ok",spare="used"} 2`)

	// With the daemon its spare goes, and the containers' monitors stay.
	n.says("vitrine_monitor_spares_ready 1")
	spare := n.spareOf()
	n.must(n.Kill9())
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); n.spareOf() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the spare %d outlives its daemon", spare)
		}
	}
	n.must(n.Start(n.ctx))
	n.says("vitrine_monitor_up 2")
	n.says("vitrine_monitor_spares_ready 1")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestNoSpareMonitorWhereTheAdministratorWantsNone(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nspare_monitors = -1\n"})
	p := n.HostPod("alone")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	_, c := n.run(sandbox, p, "c", "sh", "-c", "echo up; exec sleep 1000")
	n.stdout(p, c, "up\n")
	n.says(`vitrine_monitor_spares_total{outcome="ok",spare="off"} 1`)
	n.says("vitrine_monitor_spares_ready 0")
	if spare := n.spareOf(); spare != 0 {
		t.Errorf("there is a spare, %d", spare)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// A container that is made and not started holds up the next spare for a second; a pod that is
// made does not wait for that. One that was quicker in ten is enough: the machine may be slow.
func TestSpareMonitorBeginsBesideThePod(t *testing.T) {
	n := start(t, harness.Options{})
	p := n.HostPod("waiting")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	var took time.Duration
	for attempt := range 10 {
		n.says("vitrine_monitor_spares_ready 1")
		from := time.Now()
		harness.Must(n.cri.Create(n.ctx, sandbox, p, harness.Container(p, "c"+strconv.Itoa(attempt), n.image, "sleep", "1000")))(t)
		other := harness.Must(n.cri.RunPod(n.ctx, n.HostPod("next")))(t)
		n.says("vitrine_monitor_spares_ready 1")
		took = time.Since(from)
		n.must(n.cri.RemovePod(n.ctx, other))
		if took < 900*time.Millisecond {
			break
		}
	}
	if took >= 900*time.Millisecond {
		t.Errorf("the next spare came %v after the one before was taken, ten times no sooner than without a pod", took)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
