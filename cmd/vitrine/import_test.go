package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
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
	golden(t, "import.txt", out+"-- notes --\n"+notes)
	var parsed map[string]any
	if _, err := toml.Decode(out, &parsed); err != nil {
		t.Errorf("the result is no TOML: %v", err)
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
