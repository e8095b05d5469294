package client_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// -monitors=50 is the density of the promise; what is shared is counted as if there were so many.
var monitors = flag.Int("monitors", 8, "monitors whose memory is measured together")

// What a monitor of many may cost, in kB, on average: memory of its own, clean or dirty,
// and with its share of the program when fifty share it.
const (
	manyPrivate = 580
	manyPSS     = 620
)

// Everything is on: control socket, spans to the daemon's receiver, the ledger, and
// output that was written.
func TestManyMonitorsAreSmall(t *testing.T) {
	dir := t.TempDir()
	received := collect(t, dir+"/otlp.sock")
	var all []*box
	for range *monitors {
		b := newBox(t, "sh", "-c", "echo hello; exec sleep 1000")
		b.spawn.TelemetrySocket = dir + "/otlp.sock"
		b.spawn.Traceparent = "00-0102030405060708090a0b0c0d0e0f10-0000000000000001-01"
		b.spawn.Attributes = map[string]string{"container.id": "abc"}
		all = append(all, b.start())
	}
	for _, b := range all {
		b.eventually("the line and quiet", func() bool { s, err := b.m.Stats(b.ctx); return err == nil && s.LogLines == 1 && s.SpansSent >= 3 })
	}
	if len(received.named("monitor.create")) != len(all) {
		t.Errorf("%d spans of creations", len(received.named("monitor.create")))
	}
	perMonitor := func(file, key string) (sum float64) {
		for _, b := range all {
			sum += float64(field(t, b.m.MonitorPID(), file, key))
		}
		return sum / float64(len(all))
	}
	// Buffers are given back after the last word with the monitor.
	var private, shared float64
	all[0].eventually("little memory", func() bool {
		time.Sleep(500 * time.Millisecond)
		private = perMonitor("smaps_rollup", "Private_Dirty") + privateClean(t, all)
		shared = perMonitor("smaps_rollup", "Shared_Clean") + perMonitor("smaps_rollup", "Shared_Dirty")
		return private <= manyPrivate
	})
	pss := private + shared/50
	threads := perMonitor("status", "Threads")
	t.Logf("%d monitors: %.0f kB private, PSS %.0f kB now and %.0f kB if they were fifty, RSS %.0f kB; in the kernel page tables of %.0f kB and %.1f stacks of 16 kB",
		len(all), private, perMonitor("smaps_rollup", "Pss"), pss, perMonitor("smaps_rollup", "Rss"), perMonitor("status", "VmPTE"), threads)
	if pss > manyPSS {
		t.Errorf("PSS of %.0f kB among fifty, limit %d", pss, manyPSS)
	}
}

// privateClean is what one monitor alone has mapped and not changed, without the
// program's file: of that, some pages are one monitor's just because no other has needed
// them yet.
func privateClean(t *testing.T, all []*box) float64 {
	t.Helper()
	sum := 0
	for _, b := range all {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", b.m.MonitorPID()))
		if err != nil {
			t.Fatal(err)
		}
		program := false
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			switch {
			case len(f) >= 5 && strings.Contains(f[0], "-"):
				program = strings.HasSuffix(f[len(f)-1], "/vitrine-monitor")
			case f[0] == "Private_Clean:" && !program:
				n, _ := strconv.Atoi(f[1])
				sum += n
			}
		}
	}
	return float64(sum) / float64(len(all))
}
