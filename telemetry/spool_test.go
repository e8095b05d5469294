package telemetry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func someBatch(size, count int) batch {
	return batch{raw: []byte(strings.Repeat("x", size)), count: count}
}

func TestFullSpoolGivesUpTheOldestOfTheLargestSignal(t *testing.T) {
	s, err := openSpool(t.TempDir(), 100)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(of signal, size, count int) map[signal]int {
		lost, err := s.put(of, someBatch(size, count))
		if err != nil {
			t.Fatal(err)
		}
		return lost
	}
	keep(traces, 20, 1)
	for n := range 4 {
		keep(logs, 20, 10+n)
	}
	if lost := keep(logs, 20, 14); lost[logs] != 10 || lost[traces] != 0 {
		t.Errorf("a flood of logs cost %v", lost)
	}
	if lost := keep(traces, 20, 2); lost[logs] != 11 || lost[traces] != 0 {
		t.Errorf("a batch of traces cost %v", lost)
	}
	if s.size(traces) != 40 || s.size(logs) != 60 {
		t.Errorf("%d and %d bytes", s.size(traces), s.size(logs))
	}
	if lost, err := s.put(metered, someBatch(101, 7)); err == nil || lost[metered] != 7 || s.total() != 100 {
		t.Errorf("a batch larger than the spool: %v, %v", lost, err)
	}
}

func TestSpoolTakesUpWhatWasLeftAndPassesOverWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s, err := openSpool(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if _, err := s.put(logs, someBatch(10+n, n+1)); err != nil {
			t.Fatal(err)
		}
	}
	first := filepath.Join(dir, s.files[logs][0].name())
	for path, text := range map[string]string{first: "damaged", filepath.Join(dir, "00000000000000000009-1-00000000.traces.new"): "half", filepath.Join(dir, "note.txt"): "not ours"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := openSpool(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, damaged, ok := again.oldest(logs)
	if !ok || damaged != 1 || len(b.raw) != 11 || b.count != 2 {
		t.Fatalf("oldest: %d bytes of %d, %d damaged, %v", len(b.raw), b.count, damaged, ok)
	}
	b.sent()
	b.sent() // once is enough
	if b, _, ok := again.oldest(logs); !ok || len(b.raw) != 12 {
		t.Errorf("next: %d bytes, %v", len(b.raw), ok)
	}
	if _, _, ok := again.oldest(traces); ok {
		t.Error("traces out of nothing")
	}
	if _, err := os.Stat(filepath.Join(dir, "note.txt")); err != nil {
		t.Error("a stranger's file is gone")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
