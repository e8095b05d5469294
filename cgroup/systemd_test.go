package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"github.com/vitrine-runtime/vitrine/pod"
)

// TestSystemdKnowsWhatWasSet makes a pod's slice and a container's scope as the
// runtime does, and asks systemd.
func TestSystemdKnowsWhatWasSet(t *testing.T) {
	if !systemdRuns() {
		if c, err := New(Config{Driver: Systemd}); !errors.Is(err, pod.ErrUnsupported) {
			t.Errorf("without systemd: %v, %v", c, err)
		}
		t.Skip("systemd does not run here")
	}
	c, err := New(Config{})
	if err != nil || c.Driver() != Systemd {
		t.Fatalf("driver %v, %v", c, err)
	}
	parent := "/vitrine/test" + strconv.Itoa(os.Getpid()) // in cgroupfs syntax, as CRI has it
	podPath := c.PodPath(parent)
	specPath, fsPath := c.ContainerPath(parent, "abc")
	t.Cleanup(func() {
		for _, p := range []string{fsPath, podPath} {
			if err := c.Kill(p); err != nil && !errors.Is(err, pod.ErrNotFound) {
				t.Error(err)
			}
			if err := c.Remove(p); err != nil {
				t.Error(err)
			}
			if _, err := c.ID(p); !errors.Is(err, pod.ErrNotFound) {
				t.Errorf("%s is left: %v", p, err)
			}
		}
	})
	if made, err := c.CreatePod(t.Context(), parent, Resources{Memory: 256 << 20, MemorySwap: 256 << 20}); err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	slice, scope := path.Base(podPath), path.Base(fsPath)
	memory := "MemoryMax"
	if c.Mode() != V2 {
		memory = "MemoryLimit"
	}
	if got := property(t, slice, memory); got != strconv.Itoa(256<<20) {
		t.Errorf("%s: %s=%s", slice, memory, got)
	}
	if want := slice + ":vitrine:abc"; specPath != want {
		t.Errorf("cgroupsPath %q, want %q", specPath, want)
	}

	if _, err := c.CreatePod(t.Context(), parent+"bad", Resources{CpusetCpus: "4000"}); err == nil {
		t.Error("a pod on CPU 4000 was made")
	}
	if _, err := c.ID(c.PodPath(parent + "bad")); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("the pod that could not be made is left: %v", err)
	}

	// The runtime's part: a scope around a process.
	p := startChild(t, c, "/")
	m, err := c.unit(fsPath, &cgroups.Resources{SkipDevices: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(p.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	p.do("hold 32")
	if pids, err := c.Procs(fsPath); err != nil || len(pids) != 1 || pids[0] != p.cmd.Process.Pid {
		t.Fatalf("%v, %v", pids, err)
	}
	if err := c.Update(fsPath, Resources{Memory: 128 << 20, MemorySwap: 128 << 20, CPUShares: 2048, CPUPeriod: 100000, CPUQuota: 50000, Pids: 99}); err != nil {
		t.Fatal(err)
	}
	check := func(limit, tasks, quota string) {
		t.Helper()
		got := []string{property(t, scope, memory), property(t, scope, "TasksMax"), property(t, scope, "CPUQuotaPerSecUSec")}
		if strings.Join(got, " ") != limit+" "+tasks+" "+quota {
			t.Errorf("systemd has %v", got)
		}
		s, err := c.Stats(fsPath)
		if err != nil || strconv.FormatUint(s.Memory.Limit, 10) != limit || strconv.FormatUint(s.Pids.Limit, 10) != tasks || s.Memory.RSS < 32<<20 {
			t.Errorf("files: %+v %+v %v", s.Memory, s.Pids, err)
		}
	}
	check(strconv.Itoa(128<<20), "99", "500ms")
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(strconv.Itoa(128<<20), "99", "500ms")

	// The last of these limits is refused after systemd has taken the others.
	for name, bad := range map[string]Resources{
		"unknown file": {Memory: 64 << 20, Pids: 50, Unified: map[string]string{"memory.nothing": "1"}},
		"bad value":    {Memory: 64 << 20, Pids: 50, CPUQuota: 70000, Unified: map[string]string{"memory.high": "12x"}},
		"in use":       {Memory: 16 << 20, Pids: 50},
	} {
		if err := c.Update(fsPath, bad); err == nil {
			t.Errorf("%s: was taken", name)
		}
		check(strconv.Itoa(128<<20), "99", "500ms")
	}
}

func property(t *testing.T, unit, name string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--value", "-p", name, unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
