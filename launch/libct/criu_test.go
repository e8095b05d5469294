package libct

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFirstComplaintOfCriuIsItsError(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"a file that is no mount's": {"(00.1) Warn  (criu/x.c:1): odd\n(00.325755) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n" +
			"(00.449285) Error (criu/files-reg.c:1790): Can't lookup mount=27 for fd=1 path=/out\n(00.525474) Error (criu/cr-dump.c:2111): Dumping FAILED.\n",
			"Can't lookup mount=27 for fd=1 path=/out"},
		"nothing wrong": {"(00.1) Dumping\n", ""},
		"no line":       {"Error (", ""},
		"empty":         {"", ""},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := criuError(path); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := criuError(filepath.Join(t.TempDir(), "none")); got != "" {
		t.Errorf("no log: %q", got)
	}
}
