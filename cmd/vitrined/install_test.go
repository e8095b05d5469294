package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is installed is complete: the daemon finds its helpers beside itself, the unit
// starts the installed binary, the pages are there, a configuration of the node's owner
// stays, and uninstall leaves nothing else.
func TestInstallIsCompleteAndCanBeTakenBack(t *testing.T) {
	dest := t.TempDir()
	run := func(target string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "make", "-s", target, "DESTDIR="+dest, "PREFIX=/usr")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	const mine = "socket_group = 7\n"
	own := filepath.Join(dest, "etc/vitrine/vitrined.toml")
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	run("install")

	bin := filepath.Join(dest, "usr/bin")
	raw, err := exec.Command(bin+"/vitrined", "config", "--config", own).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	settings := string(raw)
	for _, want := range []string{bin + "/vitrine-monitor", bin + "/vitrine-launch", bin + "/vitrine-shim", bin + "/cni"} {
		if _, err := os.Stat(want); err != nil || !strings.Contains(settings, want) {
			t.Errorf("%s is not there or not what the daemon uses: %v\n%s", want, err, settings)
		}
	}
	if _, err := os.Stat(bin + "/vitrine-enter"); err != nil {
		t.Error(err)
	}
	raw, err = os.ReadFile(filepath.Join(dest, "usr/lib/systemd/system/vitrined.service"))
	if unit := string(raw); err != nil || !strings.Contains(unit, "\nExecStart=/usr/bin/vitrined\n") || !strings.Contains(unit, "\nKillMode=process\n") {
		t.Errorf("unit: %v\n%s", err, unit)
	}
	for _, name := range []string{"man/man1/vitrine.1", "man/man5/vitrined.toml.5", "man/man8/vitrined.8", "bash-completion/completions/vitrine"} {
		if s, err := os.Stat(filepath.Join(dest, "usr/share", name)); err != nil || s.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}

	run("uninstall")
	err = filepath.WalkDir(dest, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != own {
			t.Errorf("uninstall left %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(own); string(raw) != mine {
		t.Errorf("the configuration that was there is now %q: %v", raw, err)
	}
}
