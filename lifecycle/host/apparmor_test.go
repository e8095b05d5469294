package host

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestApparmorProfileIsOneThatTheCompilerTakes(t *testing.T) {
	text := apparmorProfile("some-name")
	if !strings.HasPrefix(text, "profile some-name ") || strings.Contains(text, "%!") || strings.Contains(text, "#include") {
		t.Errorf("got %s", text)
	}
	for _, rule := range []string{
		"signal (receive) peer=unconfined,", "signal (send, receive) peer=some-name,", "peer=some-name,",
		"deny /proc/{kcore,", "deny /sys/{",
	} {
		if !strings.Contains(text, rule) {
			t.Errorf("no rule %q", rule)
		}
	}
	for _, allowed := range []string{"\n  mount", "\n  pivot_root", "change_profile", "mac_admin"} {
		if strings.Contains(text, allowed) {
			t.Errorf("the profile has %q", allowed)
		}
	}
	parser, err := exec.LookPath(apparmorParser())
	if err != nil {
		t.Fatal("apparmor_parser is not installed: ", err, " (make packages does that)")
	}
	args := []string{"--skip-kernel-load", "--skip-cache", "--stdout"}
	if features := "/etc/apparmor.d/abi/3.0"; fileContains(features, "file") { // those of this kernel may be none
		args = append(args, "--features-file", features)
	}
	cmd := exec.Command(parser, args...)
	cmd.Stdin = strings.NewReader(text)
	var compiled, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &compiled, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if !bytes.Contains(compiled.Bytes(), []byte("some-name")) {
		t.Errorf("a compiled profile of %d bytes without its name", compiled.Len())
	}
}

// The compiler's own word is in the error; without a compiler the error says that.
func TestApparmorFailureIsTold(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	script := "#!/bin/sh\necho Access denied. You need policy admin privileges >&2\nexit 243\n"
	if err := os.WriteFile(filepath.Join(dir, "apparmor_parser"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	err := loadApparmor(t.Context(), "some-name")
	if err == nil || !strings.Contains(err.Error(), "policy admin privileges") || !strings.Contains(err.Error(), "some-name") {
		t.Errorf("got %v", err)
	}
}
