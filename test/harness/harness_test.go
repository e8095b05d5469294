package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPartialRecordsAreJoinedPerStreamAndOverFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, lines ...string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := write("0.log.1",
		"2026-11-20T10:00:00.000000001Z stdout P ab",
		"2026-11-20T10:00:00.000000001Z stderr F error",
		"2026-11-20T10:00:00.000000002Z stdout P cd")
	second := write("0.log", "2026-11-20T10:00:01Z stdout F ef", "2026-11-20T10:00:01Z stdout F ")
	log, err := ReadLog(first, second)
	if err != nil || string(log.Stdout) != "abcdef\n\n" || string(log.Stderr) != "error\n" || log.Records != 5 {
		t.Fatalf("got %q, %q, %d, %v", log.Stdout, log.Stderr, log.Records, err)
	}
	for name, bad := range map[string]string{
		"time":   "yesterday stdout F x",
		"stream": "2026-11-20T10:00:00Z stdin F x",
		"tag":    "2026-11-20T10:00:00Z stdout X x",
		"fields": "2026-11-20T10:00:00Z stdout F",
	} {
		if _, err := ReadLog(write(name, bad)); err == nil {
			t.Errorf("a record with a bad %s was accepted", name)
		}
	}
	back := write("back", "2026-11-20T10:00:01Z stdout F x", "2026-11-20T10:00:00Z stdout F y")
	if _, err := ReadLog(back); err == nil {
		t.Error("time that goes backwards was accepted")
	}
}

func TestCensusFindsWhatCarriesTheMarkAndSweepRemovesIt(t *testing.T) {
	t.Setenv(BinEnv, t.TempDir())
	in, err := NewInstance(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(in.Dir)
	before, err := in.Census()
	if err != nil {
		t.Fatal(err)
	}
	cgroup := filepath.Join(anyHierarchy(t), in.Name, "podx")
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { cmd.Wait(); close(reaped) }()
	defer func() { cmd.Process.Kill(); <-reaped }()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	merged := filepath.Join(in.Data(), "merged")
	os.Mkdir(merged, 0o755)
	if err := unix.Mount("tmpfs", merged, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(in.Dir, "ipam", "10.1.2.3"), nil, 0o600)
	run(t, "iptables", "-w", "-A", "FORWARD", "-m", "comment", "--comment", in.Name+" test", "-s", strings.Replace(in.Subnet, "0/24", "9/32", 1))

	after, err := in.Census()
	if err != nil {
		t.Fatal(err)
	}
	diff := Difference(before, after, 0)
	for _, want := range []string{"+ process: sleep: sleep 60", "+ mount: tmpfs on " + merged, "+ lease: 10.1.2.3", "+ iptables: -A FORWARD", in.Name + "/podx", "+ file: data/merged"} {
		if !strings.Contains(diff, want) {
			t.Errorf("the census misses %q:\n%s", want, diff)
		}
	}
	if err := in.Sweep(); err != nil {
		t.Error(err)
	}
	os.Remove(merged)
	os.Remove(filepath.Join(in.Dir, "ipam", "10.1.2.3"))
	after, err = in.Census()
	if err != nil || Difference(before, after, 0) != "" {
		t.Errorf("after the sweep: %v\n%s", err, Difference(before, after, 0))
	}
}

func TestScaleMultipliesLimits(t *testing.T) {
	t.Setenv(SlowEnv, "20")
	if got := Scale(time.Second); got != 20*time.Second {
		t.Errorf("got %v", got)
	}
	t.Setenv(SlowEnv, "")
	if got := Scale(time.Second); got != time.Second {
		t.Errorf("got %v", got)
	}
}

func anyHierarchy(t *testing.T) string {
	for _, dir := range []string{"/pids", ""} {
		if exists(cgroupRoot + dir + "/cgroup.procs") {
			return cgroupRoot + dir
		}
	}
	t.Skip("no cgroup hierarchy is mounted")
	return ""
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
