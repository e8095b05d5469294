package libct_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// slowHook makes a hook that notes that it ran and takes a while.
func (b *box) slowHook(name, seconds string) specs.Hook {
	b.Helper()
	path := filepath.Join(b.TempDir(), name)
	b.must(os.WriteFile(path, []byte("#!/bin/sh\ncat >/dev/null\nsleep "+seconds+"\n"), 0o755))
	return specs.Hook{Path: path, Args: []string{name}}
}

func TestEachHookIsAStepWithItsOwnDuration(t *testing.T) {
	b := newBox(t, "true")
	b.spec.Hooks = &specs.Hooks{
		Prestart:        []specs.Hook{b.slowHook("before", "0.05")}, //nolint:staticcheck // deprecated and still in use
		CreateRuntime:   []specs.Hook{b.slowHook("first", "0.1"), b.slowHook("second", "0.2")},
		CreateContainer: []specs.Hook{b.slowHook("third", "0.15"), b.slowHook("fourth", "0.05")},
		Poststart:       []specs.Hook{b.slowHook("after", "0.05")},
	}
	b.create()
	want := map[string]float64{"oci.hook.prestart.before": 50, "oci.hook.createRuntime.first": 100, "oci.hook.createRuntime.second": 200,
		"oci.hook.createContainer.third": 150, "oci.hook.createContainer.fourth": 50, "oci.hook.poststart.after": 50}
	for _, s := range b.reply.Steps {
		ms := float64(s.End-s.Start) / 1e6
		t.Logf("%-34s %7.3f ms", s.Name, ms)
		if sleep, ok := want[s.Name]; ok {
			if ms < sleep { // then another step has its time; a busy machine makes it longer
				t.Errorf("%s took %.1f ms, want %.0f", s.Name, ms, sleep)
			}
			delete(want, s.Name)
		} else if ms > 200 {
			t.Errorf("%s took %.1f ms: a hook's time is in it", s.Name, ms)
		}
	}
	for name := range want {
		t.Errorf("no step %s", name)
	}
}

func TestPoststopHookRunsAtDelete(t *testing.T) {
	b := newBox(t, "true")
	proof := filepath.Join(b.TempDir(), "proof")
	b.spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >" + proof}}}}
	b.runAll()
	b.remove()
	if raw, err := os.ReadFile(proof); err != nil || len(raw) == 0 {
		t.Fatalf("the hook did not run: %q, %v", raw, err)
	}
}

func TestStartContainerHookRunsAtStart(t *testing.T) {
	b := newBox(t, "cat", "/tmp/proof")
	b.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo ran >/tmp/proof"}}}}
	if out, code := b.runAll(); out != "ran\n" || code != 0 {
		t.Fatalf("got %q, exit code %d", out, code)
	}
}

func TestStartContainerHookThatFailsIsExplainedAtStart(t *testing.T) {
	b := newBox(t, "true")
	b.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 3"}}}}
	b.create()
	e := b.tryStart()
	if e == nil || e.Message == "" {
		t.Fatal("started")
	}
	t.Log(e.Message)
	b.wait(b.pid)
}
