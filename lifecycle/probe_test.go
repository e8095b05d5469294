package lifecycle

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// launcher writes a program that answers a probe as vitrine-launch does, and counts
// how often it ran.
func launcher(t *testing.T, path, answer string) {
	t.Helper()
	script := "#!/bin/sh\necho run >>" + path + ".runs\nprintf '" + answer + "' >&3\n"
	if err := os.WriteFile(path+".new", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestHandlerIsAskedOncePerBinaryWhatItCanDo(t *testing.T) {
	dir := t.TempDir()
	launch := filepath.Join(dir, "launch")
	runs := func() int {
		raw, _ := os.ReadFile(launch + ".runs")
		return strings.Count(string(raw), "run")
	}
	m := &Manager{
		config: Config{StateDir: dir, LaunchPath: launch, DefaultHandler: native, Handlers: map[string]Handler{"other": {Path: launch}}},
		ctx:    context.Background(),
	}
	launcher(t, launch, `features {"runtime":"one","recursiveReadOnlyMounts":true,"userNamespaces":false}\nend\n`)
	for range 3 {
		for _, h := range m.Handlers() {
			if h.Runtime != "one" || !h.RecursiveReadOnlyMounts || h.UserNamespaces {
				t.Errorf("handler %q: %+v", h.Name, h)
			}
		}
	}
	if got := runs(); got != 2 { // native, also under "", and other
		t.Errorf("the launcher ran %d times for two handlers", got)
	}
	launcher(t, launch, `features {"runtime":"two","userNamespaces":true}\nend\n`)
	if f := m.features(""); f.Runtime != "two" || f.RecursiveReadOnlyMounts || !f.UserNamespaces {
		t.Errorf("after the binary was replaced: %+v", f)
	}
	launcher(t, launch, `error internal probe no such thing\nend\n`)
	before := runs()
	for range 3 {
		if f := m.features(native); f.RecursiveReadOnlyMounts || f.UserNamespaces {
			t.Errorf("a handler that fails promises %+v", f)
		}
	}
	if got := runs() - before; got != 1 {
		t.Errorf("a handler that fails was asked %d times at once", got)
	}
	again := m.probes.of(native)
	again.at = again.at.Add(-2 * time.Minute)
	launcher(t, launch, `features {"runtime":"three"}\nend\n`)
	if f := m.features(native); f.Runtime != "three" {
		t.Errorf("after a while: %+v", f)
	}
	if f := m.features("nobody"); f.Runtime != "" {
		t.Errorf("a handler that is not configured: %+v", f)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "probe-*")); len(left) != 0 {
		t.Errorf("requests of probes are left: %v", left)
	}
}
