package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/vitrine-runtime/vitrine/test/golden"
)

func importTree(t *testing.T, dir string) (out, notes string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"config", "import", dir}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	return stdout.String(), stderr.String()
}

func TestImportTranslatesATreeAndSaysWhatItCould(t *testing.T) {
	out, notes := importTree(t, "testdata/crio")
	golden.Check(t, filepath.Join("testdata", "import.txt"), out+"-- notes --\n"+notes)
	var parsed map[string]any
	if _, err := toml.Decode(out, &parsed); err != nil {
		t.Errorf("the result is no TOML: %v", err)
	}
}

func TestImportReadsSizesAsCrioDoes(t *testing.T) {
	for text, want := range map[string]string{
		`"12MiB"`: "min_memory = 12582912", `"12 MB"`: "min_memory = 12582912", `"512k"`: "min_memory = 524288", `"7"`: "min_memory = 7",
		`"many"`: "is no size", `"1.5G"`: "is no size", `"99999999T"`: "is no size", `"-1M"`: "is no size", `7`: "is no size",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "crio.conf"), []byte("[crio.runtime]\ncontainer_min_memory = "+text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, notes := importTree(t, dir); !strings.Contains(out+notes, want) || strings.HasPrefix(want, "is") && strings.Contains(out, "min_memory") {
			t.Errorf("%s: %s%s, want %q", text, out, notes, want)
		}
	}
}

func TestImportRefusesWhatIsNoConfiguration(t *testing.T) {
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "crio.conf"), []byte("[crio\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{t.TempDir(): "no crio.conf", broken: "crio.conf"} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), []string{"config", "import", dir}, &stdout, &stderr); code == 0 || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit code %d, %q, want an error with %q", code, stderr.String(), want)
		}
	}
}
