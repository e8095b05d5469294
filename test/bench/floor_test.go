package main

import (
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
