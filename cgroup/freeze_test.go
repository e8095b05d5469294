package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestFrozenProcessesGoOnWhenThawed(t *testing.T) {
	c, parent := open(t)
	c.makeForTest(t, parent+"/a", Resources{})
	if c.freezerOf(parent+"/a").dir == "" {
		t.Skip("this host has no cgroup freezer")
	}
	p := startChild(t, c, parent+"/a")
	if err := c.Freeze(t.Context(), parent+"/a"); err != nil {
		t.Fatal(err)
	}
	// A signal is only acted upon by a process that runs.
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if c.Mode() != V2 { // there, a frozen process can be killed
		if raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status")); err != nil || strings.Contains(string(raw), "State:\tZ") {
			t.Errorf("the frozen process has acted: %v\n%s", err, raw)
		}
	}
	for range 2 { // a second thaw is nothing
		if err := c.Thaw(parent + "/a"); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() { p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Error("the process does not go on")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Freeze(ended, parent+"/none"); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("no cgroup: %v", err)
	}
	if err := c.Thaw(parent + "/none"); err != nil {
		t.Errorf("no cgroup: %v", err)
	}
}
