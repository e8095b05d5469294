package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/monitor/client"
)

func TestClientAttachedBeforeAFailedStartIsLetGo(t *testing.T) {
	b := newBox(t, "/bin/garbage").create()
	s, err := b.m.Attach(b.ctx, client.AttachOptions{Stdout: true, Stderr: true})
	b.must(err)
	defer s.Close()
	out := readAll(s.Stdout())
	if err := b.m.StartContainer(b.ctx); err == nil {
		t.Fatal("garbage was executed")
	}
	b.exit()
	if _, err := s.Wait(b.ctx); b.ctx.Err() != nil {
		t.Errorf("the client waits: %v", err)
	}
	<-out
}

// A process that has been waited for may have given its number to another: the monitor
// and the pods' tools signal through descriptors of processes only.
func TestMonitorSendsNoSignalByNumber(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"syscall.Kill(", "SYS_KILL", "SYS_TKILL", "SYS_TGKILL"} {
			if strings.Contains(string(raw), call) {
				t.Errorf("%s has %s", name, call)
			}
		}
	}
}
