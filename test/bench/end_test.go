package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestProcessEndsSleepsUntilTheEndAndLooksMeanwhile(t *testing.T) {
	cmd := exec.Command("sleep", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	from, looks := time.Now(), 0
	if err := processEnds(t.Context(), cmd.Process.Pid, func() { looks++ }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(from); took < 500*time.Millisecond {
		t.Errorf("ended after %v, before the process", took)
	}
	if looks == 0 {
		t.Error("nobody looked")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := processEnds(t.Context(), cmd.Process.Pid, func() {}); err != nil { // reaped
		t.Errorf("a process that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := processEnds(ctx, os.Getpid(), func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestRehearsalLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := rehearse(dir+"/logs", 1<<20); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir + "/logs")
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	os.WriteFile(dir+"/file", nil, 0o600)
	if err := rehearse(dir+"/file", 1<<20); err == nil {
		t.Error("a rehearsal in a file has no error")
	}
}
