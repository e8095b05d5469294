package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
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

// Without an option the result is another one, or the option was passed over in silence.
func TestImportSaysSomethingOfEveryOption(t *testing.T) {
	whole := func(c *crioConfig) string {
		var out bytes.Buffer
		done := c.translate()
		if err := done.write(&out); err != nil {
			t.Fatal(err)
		}
		return out.String() + strings.Join(done.notes, "\n")
	}
	source, err := readCrio("testdata/crio-all")
	if err != nil {
		t.Fatal(err)
	}
	all := whole(source)
	out, notes := importTree(t, "testdata/crio-all")
	golden.Check(t, filepath.Join("testdata", "import-all.txt"), out+"-- notes --\n"+notes)
	if len(source.keys) < 140 || strings.Contains(all, "no equivalent") {
		t.Errorf("%d options make\n%s", len(source.keys), all)
	}
	for path, key := range source.keys {
		delete(source.keys, path)
		if whole(source) == all {
			t.Errorf("%s:%d: %s is passed over", key.file, key.line, path)
		}
		source.keys[path] = key
	}
}

func TestImportReadsOptionsTogether(t *testing.T) {
	for text, want := range map[string]string{
		"[crio.api]\nstream_port = \"10010\"":                                      `address = "127.0.0.1:10010"`,
		"[crio.api]\nstream_tls_cert = \"/c\"":                                     "has no effect without crio.api.stream_enable_tls",
		"[crio.api]\nstream_enable_tls = true":                                     "no certificate is made",
		"[crio.metrics]\nmetrics_port = 1":                                         "has no effect without crio.metrics.enable_metrics",
		"[crio.tracing]\nenable_tracing = true":                                    `sampler = "parentbased_always_off"`,
		"[crio.nri]\nnri_listen = \"/n.sock\"":                                     `nri_socket = "/n.sock"`,
		"[crio.nri]\nenable_nri = false\nnri_listen = \"/n.sock\"":                 "has no effect with crio.nri.enable_nri = false",
		"[crio.runtime]\ndefault_runtime = \"no-such\"":                            "[runtime.handlers.no-such]\npath = \"no-such\"",
		"[crio.runtime.runtimes.sh]\nruntime_root = \"/r\"":                        "[runtime.handlers.sh]\npath = \"/",
		"[crio.runtime.runtimes.vm]\nruntime_type = \"vm\"":                        "handler is left out",
		"[crio.runtime.runtimes.p]\nruntime_type = \"pod\"\nruntime_path = \"/p\"": "handler is left out",
		"[crio.runtime.runtimes.vm]\nruntime_type = \"vm\"\nruntime_path = \"/s\"": "[runtime.handlers.vm]\nshim = \"/s\"",
		"[crio.runtime]\ndefault_runtime = \"d\"\n[crio.runtime.runtimes.d]\nruntime_path = \"/d\"\n[crio.runtime.runtimes.i]\ninherit_default_runtime = true": "[runtime.handlers.i]\npath = \"/d\"",
		"[crio.runtime]\nno_such = 1": "crio.conf:2: crio.runtime.no_such: no equivalent",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "crio.conf"), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, notes := importTree(t, dir); !strings.Contains(out+notes, want) {
			t.Errorf("%q makes\n%s%s\nwant %q", text, out, notes, want)
		}
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

func TestImportTranslatesTheFileOfMounts(t *testing.T) {
	dir := t.TempDir()
	there, list := filepath.Join(dir, "secrets"), filepath.Join(dir, "mounts.conf")
	for name, text := range map[string]string{
		there: "", list: "# of all containers\n" + there + ":/run/secrets\n" + there + "  # the same place\n/not/there:/run/none\nrelative:/run/x\n",
		filepath.Join(dir, "crio.conf"): "[crio.runtime]\ndefault_mounts_file = \"" + list + "\"\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, notes := importTree(t, dir)
	var parsed struct {
		Runtime struct{ Defaults struct{ Mounts []string } }
	}
	if _, err := toml.Decode(out, &parsed); err != nil {
		t.Fatal(err)
	}
	if got, want := parsed.Runtime.Defaults.Mounts, []string{there + ":/run/secrets", there + ":" + there}; !slices.Equal(got, want) {
		t.Errorf("mounts %q, want %q", got, want)
	}
	for _, want := range []string{"/not/there", `"relative:/run/x" is not`, "read-only, not copied"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q say nothing of %q", notes, want)
		}
	}
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	if out, notes := importTree(t, dir); strings.Contains(out, "mounts") || !strings.Contains(notes, "no such file") {
		t.Errorf("without the file: %q, %q", out, notes)
	}
}

func TestImportReadsTheTimeoutOfPulls(t *testing.T) {
	for text, want := range map[string]string{`"10s"`: `stall_timeout = "10s"`, `"0s"`: `stall_timeout = "-1s"`, `"0"`: `stall_timeout = "-1s"`, `"soon"`: "is no duration", `"-1s"`: "is no duration"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "crio.conf"), []byte("[crio.image]\npull_progress_timeout = "+text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, notes := importTree(t, dir); !strings.Contains(out+notes, want) {
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
