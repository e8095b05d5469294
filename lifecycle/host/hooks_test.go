package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestHooksAreChosenByEveryConditionThatIsSet(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-all.json":   `{"version":"1.0.0","hook":{"path":"/bin/a"},"when":{"always":true},"stages":["createRuntime"]}`,
		"20-shell.json": `{"version":"1.0.0","hook":{"path":"/bin/b"},"when":{"commands":["sh$"],"annotations":{"^trace$":"on"}},"stages":["createContainer","poststop"]}`,
		"readme.txt":    `not a hook`,
	} {
		os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	files, err := readHooks(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("read %d hooks, %v", len(files), err)
	}
	h := Host{hooks: files}
	s := &specs.Spec{Process: &specs.Process{Args: []string{"/bin/sh"}}, Annotations: map[string]string{"trace": "off"}}
	if got := h.Hooks(s); len(got.CreateRuntime) != 1 || len(got.CreateContainer) != 0 {
		t.Errorf("one condition fails, yet got %+v", got)
	}
	s.Annotations["trace"] = "on"
	if got := h.Hooks(s); len(got.CreateContainer) != 1 || len(got.Poststop) != 1 {
		t.Errorf("both conditions hold, yet got %+v", got)
	}
	os.WriteFile(filepath.Join(dir, "30-bad.json"), []byte(`{"version":"2.0.0"}`), 0o644)
	if _, err := readHooks(dir); err == nil || !strings.Contains(err.Error(), "30-bad.json") {
		t.Errorf("a hook that cannot be understood gave %v", err)
	}
}
