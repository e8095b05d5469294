package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// cgroupOf is the text of a process's cgroups.
func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	return string(harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t))
}

// in reports whether every hierarchy that has limits or accounts says so.
func in(cgroups, path string) bool {
	there := 0
	for line := range strings.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || strings.HasPrefix(fields[1], "name=") && fields[2] == "/" {
			continue
		}
		if fields[2] != path {
			return false
		}
		there++
	}
	return there > 0
}

// driver is the one that the suite is run with, where a test must know the paths of cgroups.
func driver() string { return cmp.Or(os.Getenv(harness.DriverEnv), "cgroupfs") }

func (n *node) monitorOf(id string) int {
	n.Helper()
	pid := findProcess("vitrine-monitor", filepath.Join(n.State(), "containers", id))
	if pid == 0 {
		n.Fatalf("container %s has no monitor", id)
	}
	return pid
}

func TestMonitorsCountForTheirPod(t *testing.T) {
	n := start(t, harness.Options{CgroupDriver: driver(), Config: "[runtime]\nmonitor_cgroup = \"pod\"\n"})
	p := n.HostPod("accounted")
	p.Linux.Resources = &runtime.LinuxContainerResources{MemoryLimitInBytes: 96 << 20}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	place := filepath.Join(p.Linux.CgroupParent, "vitrine-monitors")
	id, c := n.run(sandbox, p, "c", "sh", "-c", "echo hello; exec sleep 1000")
	n.stdout(p, c, "hello\n")
	monitor := n.monitorOf(id)
	if got := cgroupOf(t, monitor); !in(got, place) {
		t.Errorf("the monitor is not in %s:\n%s", place, got)
	}
	if got := cgroupOf(t, initPID(t, n, id)); strings.Contains(got, "vitrine-monitors") {
		t.Errorf("the container is where its monitor is:\n%s", got)
	}
	if out := harness.Must(n.cri.Exec(n.ctx, id, 60, "cat", "/proc/self/cgroup"))(t); strings.Contains(string(out.Stdout), "vitrine-monitors") {
		t.Errorf("an exec is where the monitor is:\n%s", out.Stdout)
	}
	if got := cgroupOf(t, n.PID()); strings.Contains(got, "vitrine-monitors") {
		t.Errorf("the daemon is where the monitor is:\n%s", got)
	}

	kill9(n, monitor)
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); ; time.Sleep(10 * time.Millisecond) {
		pid := findProcess("vitrine-monitor", filepath.Join(n.State(), "containers", id))
		if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); pid != monitor && err == nil && in(string(raw), place) {
			monitor = pid
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no other monitor came into the same place")
		}
	}

	// The pod's limit runs out: the container goes, the monitor stays.
	hog := harness.Must(n.cri.Run(n.ctx, sandbox, p, harness.Container(p, "hog", n.image, "/bin/payload", "hog", "200")))(t)
	end := harness.Must(n.cri.WaitExit(n.ctx, hog))(t)
	if end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("reason %q, code %d, want OOMKilled with 137", end.Reason, end.ExitCode)
	}
	if n.monitorOf(id) != monitor || n.monitorOf(hog) == 0 {
		t.Error("the OOM killer took a monitor")
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestMonitorsHaveACgroupOfTheirOwn(t *testing.T) {
	name := fmt.Sprintf("/vitrinetest%d", os.Getpid())
	config := fmt.Sprintf("[runtime]\nmonitor_cgroup = %q\n", name)
	if driver() == "systemd" { // the slice of that name, by kubelet's rule
		name += ".slice"
	}
	// Such a place stays. It can go when the daemon and its spare monitor have ended, so what
	// removes it is noted before they begin.
	t.Cleanup(func() {
		for deadline := time.Now().Add(harness.Scale(20 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
			var left []string
			for _, root := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
				for _, below := range []string{name + "/vitrine-monitors", name} {
					dirs, _ := filepath.Glob(root + below)
					for _, dir := range dirs {
						if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
							left = append(left, err.Error())
						}
					}
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("cgroups are left behind: %q", left)
				return
			}
		}
	})
	n := start(t, harness.Options{CgroupDriver: driver(), Config: config})
	p := n.HostPod("elsewhere")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	n.says("vitrine_monitor_spares_ready 1") // it is born there, too
	if got := cgroupOf(t, n.spareOf()); !in(got, name+"/vitrine-monitors") {
		t.Errorf("the spare monitor is not below %s:\n%s", name, got)
	}
	id, _ := n.run(sandbox, p, "c", "sleep", "1000")
	if got := cgroupOf(t, n.monitorOf(id)); !in(got, name+"/vitrine-monitors") {
		t.Errorf("the monitor is not below %s:\n%s", name, got)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// A place that monitors cannot have is told in one line when the daemon starts, and by
// "vitrined config" and "vitrined check" where it could be on no host.
func TestMonitorCgroupThatCannotBeIsToldAtTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		value, want string
		anywhere    bool // it can be on no host
	}{
		"a misspelt word": {"pods", `cgroup "pods" is neither a slice (NAME.slice) nor an absolute path`, true},
		"a way upwards":   {"/a/../b", "has .. on its way", true},
		"no slice":        {"a--b.slice", "is no name of a slice", true},
		"a kernel's file": {"/cgroup.procs", "make cgroup /cgroup.procs/vitrine-monitors for monitors", false},
	} {
		t.Run(name, func(t *testing.T) {
			config := fmt.Sprintf("[runtime]\nmonitor_cgroup = %q\n", c.value)
			d := harness.Must(harness.NewDaemon(harness.Options{CgroupDriver: "cgroupfs", Config: config}))(t)
			t.Cleanup(func() { d.Close() })
			err := d.Start(harness.Context(t, time.Minute))
			if err == nil || !strings.Contains(err.Error(), "daemon ended while starting") {
				t.Fatalf("the daemon started: %v", err)
			}
			raw, _ := os.ReadFile(d.DaemonLog())
			var said []string
			for line := range strings.Lines(string(raw)) {
				if strings.HasPrefix(line, "vitrined: ") {
					said = append(said, line)
				}
			}
			if len(said) != 1 || !strings.Contains(said[0], "monitor_cgroup") || !strings.Contains(said[0], c.want) {
				t.Errorf("the daemon's last words are %q, want one line with %q", said, c.want)
			}
			file := filepath.Join(t.TempDir(), "vitrined.toml")
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"config", "check"} {
				out, err := exec.Command(filepath.Join(harness.Must(harness.Bin())(t), "vitrined"), verb, "--config", file).CombinedOutput()
				if refused := err != nil && strings.Contains(string(out), c.want); refused != c.anywhere {
					t.Errorf("vitrined %s: %v, %s", verb, err, out)
				}
			}
		})
	}
}
