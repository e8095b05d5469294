package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOverlappingExecutionsCountOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		runs []execution
		want time.Duration
	}{
		{"none", nil, 0},
		{"one after the other", []execution{{10, 20}, {30, 35}}, 15},
		{"side by side", []execution{{10, 20}, {15, 25}}, 15},
		{"one within the other", []execution{{12, 14}, {10, 20}}, 10},
		{"at once", []execution{{10, 20}, {10, 20}}, 10},
	} {
		if got := together(c.runs); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// A plugin behind a stopwatch is what it was to its runtime; its time is told; and what
// it runs in turn is in its time and not told again.
func TestAStopwatchIsThePluginToItsRuntime(t *testing.T) {
	bin := t.TempDir()
	for name, text := range map[string]string{
		"bridge":     "#!/bin/sh\ncat; echo $CNI_COMMAND >&2; sleep 1; \"$CNI_PATH/host-local\"; exit 7\n",
		"host-local": "#!/bin/sh\necho address\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newPlugins(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if runs, err := p.take(); err != nil || len(runs) != 0 {
		t.Fatalf("before any execution: %v, %v", runs, err)
	}
	for _, command := range []string{"ADD", "DEL", "DEL"} {
		cmd := exec.Command(filepath.Join(p.dir, "bridge"))
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=pod1", "CNI_PATH="+p.dir)
		var out, errs strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("configuration "), &out, &errs
		cmd.Run()
		if out.String() != "configuration address\n" || errs.String() != command+"\n" || cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("%s: %q, %q, status %d", command, out.String(), errs.String(), cmd.ProcessState.ExitCode())
		}
	}
	runs, err := p.take()
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 || len(runs["pod1"]["ADD"]) != 1 || len(runs["pod1"]["DEL"]) != 2 {
		t.Errorf("executions %v", runs)
	}
	for command, all := range runs["pod1"] {
		if slices.ContainsFunc(all, func(e execution) bool { return e.to-e.from < time.Second }) {
			t.Errorf("%s: a plugin of a second took %v", command, all)
		}
	}
	if runs, err := p.take(); err != nil || len(runs) != 0 {
		t.Errorf("taken twice: %v, %v", runs, err)
	}
}
