package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// LogsEnv names a directory, on the file system of the temp directory, that keeps the
// whole daemon log of every failed test; without it the log's end is printed.
const LogsEnv = "VITRINE_TEST_LOGS"

// Run starts a daemon for a test and ends it with the test. A test that passed must
// have left nothing but the daemon itself: what the sweep would have to remove is
// the test's failure. A failed test shows the end of the daemon's log.
func Run(t testing.TB, o Options) *Daemon {
	t.Helper()
	skipLate(t)
	d, err := NewDaemon(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, d) })
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func finish(t testing.TB, d *Daemon) {
	if err := d.Stop(); err != nil {
		t.Errorf("stop daemon: %v", err)
	}
	if !t.Failed() {
		if lines, err := stays(d.Instance); err != nil {
			t.Error(err)
		} else if lines != "" {
			t.Errorf("left behind after the test:\n%s", lines)
		}
	}
	if dir := os.Getenv(LogsEnv); dir != "" && t.Failed() {
		if err := os.Rename(d.DaemonLog(), filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")+".log")); err != nil {
			t.Log(err)
		}
	} else if t.Failed() {
		t.Logf("end of %s:\n%s", d.DaemonLog(), tail(d.DaemonLog(), 16<<10))
	}
	if err := d.Close(); err != nil {
		t.Errorf("clean up after the test: %v", err)
	}
}

// stays lists what a stopped daemon without pods has left behind. Its trustee notices the
// daemon's end and ends a moment later.
func stays(in *Instance) (lines string, err error) {
	for deadline := time.Now().Add(Scale(5 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		left, err := in.Census()
		if err != nil {
			return "", err
		}
		if lines = left.Live(); lines == "" || time.Now().After(deadline) {
			return lines, nil
		}
	}
}

// Live lists what outlives a daemon that has no pods and was stopped, which is
// nothing except files and furniture.
func (c *Census) Live() string { return c.list(Processes, Netns, Cgroups, Links, Leases) }

// Remains lists everything but files, furniture included: what a wiped host has not.
func (c *Census) Remains() string {
	return c.list(Processes, Mounts, Netns, Cgroups, Links, Rules, Leases, Layers, Pins, Furniture)
}

func (c *Census) list(kinds ...Kind) string {
	var out strings.Builder
	for _, kind := range kinds {
		for _, item := range c.Items[kind] {
			fmt.Fprintf(&out, "%s: %s\n", kind, item)
		}
	}
	return out.String()
}

// Must turns a call's two results into its value, or ends the test:
//
//	id := harness.Must(cri.RunPod(ctx, pod))(t)
func Must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Client is the daemon's CRI client for a test.
func (d *Daemon) Client(t testing.TB) *CRI {
	t.Helper()
	return Must(d.CRI())(t)
}

// Context ends with the test or after the limit, whichever is first. A test whose
// requests lack a field waits for something that cannot come: it gets less time.
func Context(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	if Without() != "" {
		limit = min(limit, 20*time.Second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Scale(limit))
	t.Cleanup(cancel)
	return ctx
}

// NothingLeft fails the test when the census still differs from before after two seconds of an
// idle machine. Plugins that the daemon runs in the background take longer on a busy one.
func NothingLeft(t testing.TB, d *Daemon, before *Census) {
	t.Helper()
	wait := time.Duration(float64(2*time.Second) * Slowdown())
	if diff := Must(d.Left(context.WithoutCancel(t.Context()), before, 8, wait))(t); diff != "" {
		t.Errorf("the census is not what it was:\n%s", diff)
	}
}
