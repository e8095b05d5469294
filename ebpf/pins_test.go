package ebpf_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPinsOfOtherLayoutsAreForgotten(t *testing.T) {
	p, dir := openAt(t)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	old, kept := filepath.Join(dir, "v1"), filepath.Join(dir, "verdicts")
	for _, d := range []string{old, kept} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Remove(kept)
	// Another build's, so that the ordinary way is gone.
	built, err := filepath.Glob(filepath.Join(dir, "v*", "built-*"))
	if err != nil || len(built) != 1 {
		t.Fatalf("%v, %v", built, err)
	}
	if err := os.Remove(built[0]); err != nil {
		t.Fatal(err)
	}
	openIn(t, dir).Close()
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old layout: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what is no layout: %v", err)
	}
}
