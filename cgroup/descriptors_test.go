package cgroup

import (
	"os"
	"testing"
)

func TestOpenFilesOfAProcessAreCounted(t *testing.T) {
	before, ok := descriptorsOf([]int{os.Getpid()})
	if !ok || before < 3 {
		t.Fatalf("%d, %v", before, ok)
	}
	for range 5 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if after, ok := descriptorsOf([]int{os.Getpid(), 1 << 30}); !ok || after != before+5 {
		t.Errorf("%d files open, %v; five more than %d are", after, ok, before)
	}
	if _, ok := descriptorsOf(make([]int, maxCountedProcs+1)); ok {
		t.Error("the bound does not hold")
	}
}

func TestADeviceWithoutANameKeepsItsNumbers(t *testing.T) {
	for range 2 {
		if got := DeviceName(0, 1<<19); got != "0:524288" {
			t.Errorf("%q", got)
		}
	}
}
