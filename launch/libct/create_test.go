package libct_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestContainerRunsAndItsExitReachesTheSubreaper(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo out; echo err >&2; exit 7")
	out, code := b.runAll()
	if out != "out\nerr\n" || code != 7 {
		t.Fatalf("got %q and exit code %d", out, code)
	}
}

func TestContainerWaitsForItsStart(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo started")
	b.create()
	comm, err := os.ReadFile("/proc/" + itoa(b.pid) + "/comm")
	b.must(err)
	if !strings.HasPrefix(string(comm), "runc:[2:INIT]") {
		t.Fatalf("before the start, process %d is %q", b.pid, comm)
	}
	b.start()
	b.wait(b.pid)
	if got := b.stdout.String(); got != "started\n" {
		t.Fatalf("got %q", got)
	}
}

func TestContainerHasItsOwnNamespaces(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo pid $$; hostname; for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; ls /proc/self/fd; ip link")
	out, code := b.runAll()
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if !strings.Contains(out, "pid 1\nbox\n") {
		t.Errorf("the process is not pid 1 of host box: %q", out)
	}
	for _, ns := range []string{"pid", "net", "ipc", "uts", "mnt", "cgroup"} {
		host, err := os.Readlink("/proc/self/ns/" + ns)
		b.must(err)
		if strings.Contains(out, host) {
			t.Errorf("the container shares the host's %s", host)
		}
	}
	// ls itself has opened 3; anything more has leaked into the container
	if !strings.Contains(out, "0\n1\n2\n3\n") || strings.Contains(out, "\n4\n") {
		t.Errorf("descriptors leak into the container: %q", out)
	}
	if !strings.Contains(out, "LOOPBACK,UP") {
		t.Errorf("the loopback interface is down: %q", out)
	}
}

func TestLimitsReachTheCgroup(t *testing.T) {
	b := newBox(t, "sleep", "100")
	b.create()
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		t.Skip("cgroup v1 controller memory is missing; v2 is tested in the guest")
	}
	for _, c := range []struct{ controller, file, want string }{
		{"memory", "memory.limit_in_bytes", "134217728"},
		{"pids", "pids.max", "100"},
		{"cpu", "cpu.shares", "512"},
	} {
		if got := b.cgroupFile(c.controller, c.file); got != c.want {
			t.Errorf("%s is %s, want %s", c.file, got, c.want)
		}
	}
	if got := b.cgroupFile("memory", "cgroup.procs"); got != itoa(b.pid) {
		t.Errorf("cgroup.procs has %q, want %d", got, b.pid)
	}
	b.start()
	b.must(syscall.Kill(b.pid, syscall.SIGKILL))
	if status := b.wait(b.pid); status.Signal() != syscall.SIGKILL {
		t.Errorf("status %v", status)
	}
}

func TestStepsExplainTheCreate(t *testing.T) {
	b := newBox(t, "true")
	b.spec.Linux.Seccomp = ordinaryProfile(t)
	b.create()
	total, covered := int64(0), int64(0)
	var names []string
	for i, s := range b.reply.Steps {
		if s.End < s.Start {
			t.Errorf("%s ends before it starts", s.Name)
		}
		if i > 0 && s.Start < b.reply.Steps[i-1].Start {
			t.Errorf("%s is out of order", s.Name)
		}
		covered += s.End - s.Start
		names = append(names, s.Name)
		t.Logf("%-18s %7.3f ms", s.Name, float64(s.End-s.Start)/1e6)
	}
	total = b.reply.Steps[len(names)-1].End - b.reply.Steps[0].Start
	if share := float64(covered) / float64(total); share < 0.98 {
		t.Errorf("steps cover %.1f %%", share*100)
	}
	// Seen from outside there are the fork before and the exit after it.
	wall := b.answered.Sub(b.spawned)
	t.Logf("steps %.3f ms, wall %.3f ms", float64(covered)/1e6, wall.Seconds()*1e3)
	if missing := wall.Nanoseconds() - covered; missing > 3e6 && missing > wall.Nanoseconds()/5 {
		t.Errorf("%.3f ms of %v are in no step", float64(missing)/1e6, wall)
	}
	for _, want := range []string{"launch.init", "launch.request", "libct.spec", "libct.config", "libct.seal", "libct.spawn", "libct.cgroup",
		"libct.namespaces", "libct.boot", "libct.rootfs", "libct.limits", "libct.pivot", "libct.state", "libct.credentials", "libct.seccomp", "libct.ready", "launch.reply"} {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+want+" ") {
			t.Errorf("no step %s", want)
		}
	}
}
