package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFloorIsMeasuredAndLeavesNothing(t *testing.T) {
	r := newReport()
	if err := measureFloor(r); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.figures([]string{kernel}) {
		t.Logf("%s: %.2f ms, p90 %.2f", f.Metric, f.Median, f.P90)
		if f.N != floorRuns || f.Median <= 0 {
			t.Errorf("%+v", f)
		}
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/floor-*"); len(left) > 0 {
		t.Errorf("%d cgroups are left behind: %s", len(left), left[0])
	}
}

// What cat copies is the floor of every kind of turn, and leaves no file.
func TestFloorOfLogsIsMeasuredAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	r := newReport()
	if err := floorLogs(t.Context(), options{logMiB: 2}, r); err != nil {
		t.Fatal(err)
	}
	throughput := 0
	for _, f := range r.figures([]string{kernel}) {
		if f.Unit == mbPerSecond && f.N == 1 && f.Median > 0 {
			throughput++
		}
	}
	if throughput != len(logTurns) {
		t.Errorf("%d of %d turns have a floor: %+v", throughput, len(logTurns), r.figures([]string{kernel}))
	}
	if left, err := filepath.Glob(os.Getenv("TMPDIR") + "/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRatiosAreTakenPerRound(t *testing.T) {
	r := newReport()
	for round, own := range []float64{10, 20, 30} {
		r.round = round
		r.add("vitrine", "m", milliseconds, own)
		r.add("peer", "m", milliseconds, 2*own)
	}
	var text strings.Builder
	r.print(&text, []*target{{name: "vitrine"}, {name: "peer"}})
	if !strings.Contains(text.String(), "0.50 [0.50 0.50]") {
		t.Errorf("got\n%s", text.String())
	}
}
