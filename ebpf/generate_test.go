package ebpf_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestCommittedObjectsMatchTheirSources(t *testing.T) {
	for _, tool := range []string{"clang", "llvm-strip", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: the objects cannot be compiled anew", tool)
		}
	}
	if _, err := os.Stat("/usr/include/bpf/bpf_core_read.h"); err != nil {
		t.Skip("libbpf-dev is missing: the objects cannot be compiled anew")
	}
	dir := t.TempDir()
	if out, err := exec.Command("bpf/generate", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	anew, err := filepath.Glob(dir + "/*_bpfel.*")
	if err != nil || len(anew) != 8 {
		t.Fatalf("generated %v, %v", anew, err)
	}
	for _, path := range anew {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile(filepath.Base(path)); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s differs from its sources (%v): run go generate ./ebpf", filepath.Base(path), err)
		}
	}
}
