package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
)

func TestContainerRunsIsLoggedAndItsExitIsRecorded(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo out; echo err >&2; printf 'no end'; exit 7").start()
	before := time.Now()
	e := b.exit()
	if e.Code() != 7 || e.Signal() != 0 || e.PID != b.m.PID() || e.PID != b.made.PID || e.StartedAt == 0 || e.ExitedAt < e.StartedAt ||
		time.Unix(0, e.ExitedAt).Sub(before) > time.Second || e.MaxRSS == 0 || e.StartError != "" {
		t.Errorf("exit %+v", e)
	}
	out, err := b.log()
	if out != "out\nno end\n" || err != "err\n" {
		t.Errorf("log: %q, %q", out, err)
	}
	if e.LogBytes != int64(len("out\nerr\nno end")) || e.LogLines != 3 || e.LogDropped != 0 {
		t.Errorf("counted %+v", e)
	}
	if len(b.made.Steps) == 0 {
		t.Error("the launcher's steps are missing")
	}
}

func TestExitsKeepTheirRawStatus(t *testing.T) {
	for script, want := range map[string]struct {
		code   int32
		signal int
	}{"exit 0": {0, 0}, "exit 255": {255, 0}, "exit 137": {137, 0}, "sleep 100": {128 + 9, 9}} {
		b := newBox(t, "sh", "-c", script).start()
		if want.signal != 0 {
			b.must(b.m.Signal(b.ctx, syscall.Signal(want.signal), false))
		}
		if e := b.exit(); e.Code() != want.code || e.Signal() != want.signal {
			t.Errorf("%s: %+v", script, e)
		}
	}
}

func TestContainerSeesItsStandardStreamsOnly(t *testing.T) {
	b := newBox(t, "sh", "-c", "ls /proc/1/fd | tr '\\n' ' '; exec ls -l /proc/self/fd")
	b.spec.Process.Args = []string{"ls", "/proc/1/fd"}
	b.start().exit()
	out, _ := b.log()
	if out != "0\n1\n2\n3\n" { // 3 is the directory that ls reads
		t.Errorf("descriptors of pid 1: %q", out)
	}
	c := newBox(t, "sleep", "100").start()
	got, _, _ := c.exec("ls", "/proc/self/fd")
	if got != "0\n1\n2\n3\n" {
		t.Errorf("descriptors of an exec: %q", got)
	}
}

func TestProgramThatCannotBeExecutedIsNamedInOneLine(t *testing.T) {
	for command, want := range map[string]struct {
		kind launch.Kind
		text string
	}{
		"no-such-command": {launch.KindNotFound, "not found"},
		"/no/such/path":   {launch.KindNotFound, "no such file"},
		"/bin/plain":      {launch.KindNotExecutable, "permission denied"},
		"/bin/garbage":    {launch.KindNotExecutable, "exec format error"},
		"/bin/orphan":     {launch.KindNotFound, "no such file"},
	} {
		b := newBox(t, command)
		err := b.tryCreate()
		if err == nil {
			err = b.m.StartContainer(b.ctx)
			if err != nil {
				e := b.exit()
				if e.StartError == "" || e.StartedAt != 0 {
					t.Errorf("%s: exit %+v", command, e)
				}
			}
		}
		var failed *launch.Error
		if !errors.As(err, &failed) {
			t.Errorf("%s: %v", command, err)
			continue
		}
		if failed.Kind != want.kind || !strings.Contains(failed.Message, want.text) || strings.Contains(failed.Message, "\n") {
			t.Errorf("%s: %s %q", command, failed.Kind, failed.Message)
		}
	}
}

func TestContainerThatEndsAtOnceWasStarted(t *testing.T) {
	for range 20 {
		b := newBox(t, "true").start()
		if e := b.exit(); e.Code() != 0 || e.StartedAt == 0 || e.StartError != "" {
			t.Fatalf("exit %+v", e)
		}
	}
}

func TestContainerKilledBeforeItsStartHasARecord(t *testing.T) {
	b := newBox(t, "true").create()
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, false))
	if e := b.exit(); e.Signal() != 9 || e.StartedAt != 0 {
		t.Errorf("exit %+v", e)
	}
	var failed *launch.Error
	if err := b.m.StartContainer(b.ctx); !errors.As(err, &failed) || failed.Kind != launch.KindGone {
		t.Errorf("start: %v", err)
	}
}

func TestFailedCreationLeavesNothing(t *testing.T) {
	b := newBox(t, "true")
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such/source", Options: []string{"bind"}})
	err := b.tryCreate()
	var failed *launch.Error
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "/no/such/source") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(b.dir + "/ctl"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
	if _, err := client.Connect(b.ctx, b.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("connect: %v", err)
	}
}

// fake makes the launcher misbehave.
func fake(t *testing.T, behaviour string) *box {
	b := newBox(t, "true")
	self, err := os.Executable()
	b.must(err)
	b.spawn.LaunchPath = b.dir + "/fake-launch"
	b.spawn.DeleteRequest = ""
	b.must(os.Symlink(self, b.spawn.LaunchPath))
	b.must(os.WriteFile(b.dir+"/behaviour", []byte(behaviour), 0o600))
	return b
}

// The monitor runs the launcher under the name vitrine-launch, whatever its path is;
// the fake is told from the test by its arguments.
func init() {
	if len(os.Args) == 2 && strings.HasSuffix(os.Args[1], "launch.json") {
		fakeLaunch()
	}
}

func TestLauncherThatDiesIsAnErrorWithItsLastWords(t *testing.T) {
	for behaviour, want := range map[string]string{
		"die": "exit status 3): runc run failed: the disk is on fire", "killed": "killed by signal 9", "garbage": "without an answer",
		"half": "without an answer", "nothing": "named no process", "flood": "without an answer",
	} {
		b := fake(t, behaviour)
		err := b.tryCreate()
		var failed *launch.Error
		if !errors.As(err, &failed) || !strings.Contains(failed.Message, want) || failed.Kind != launch.KindInternal {
			t.Errorf("%s: %v", behaviour, err)
		}
	}
}

func TestCreationIsGivenUpWhenItsContextEnds(t *testing.T) {
	b := fake(t, "hang")
	ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, _, err := client.Start(ctx, b.spawn)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if _, err := os.Stat(b.dir + "/ctl"); !errors.Is(err, os.ErrNotExist) {
		t.Error("the monitor is still there")
	}
}

func TestUnusableLogPathFailsTheCreation(t *testing.T) {
	b := newBox(t, "true")
	b.spawn.LogPath = b.logs + "/missing/0.log"
	if err := b.tryCreate(); err == nil || !strings.Contains(err.Error(), "missing/0.log: no such file or directory") {
		t.Errorf("got %v", err)
	}
}

func TestOnlySIGKILLEndsAMonitorAndTheContainerOutlivesIt(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	pid, monitor := b.m.PID(), b.m.MonitorPID()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGPIPE} {
		b.must(syscall.Kill(monitor, sig))
	}
	if _, err := b.m.Stats(b.ctx); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(raw)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); key == "SigIgn" && value != "0000000000000000" {
			t.Errorf("the container ignores signals %s", value)
		}
	}
	syscall.Kill(monitor, syscall.SIGKILL)
	<-b.m.Lost()
	if !alive(pid) {
		t.Error("the container died with its monitor")
	}
	syscall.Kill(pid, syscall.SIGKILL)
	b.eventually("end of the container", func() bool { return !alive(pid) })
	b.m.Close()
	b.m = nil
}

func TestMonitorHasItsOwnOOMScoreAndTheContainerThePods(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	adj, own := 300, 200
	b.spec.Process.OOMScoreAdj = &adj
	b.spawn.OOMScoreAdj = own
	b.start()
	for pid, want := range map[int]string{b.m.PID(): "300\n", b.m.MonitorPID(): "200\n"} {
		if raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); string(raw) != want {
			t.Errorf("process %d has %q, want %q", pid, raw, want)
		}
	}
}

func TestAdoptedProcessesAreReaped(t *testing.T) {
	b := newBox(t, "sh", "-c", "for i in $(seq 50); do (true & true) & done; wait; sleep 1000")
	b.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}} // the host's pid namespace: orphans come to the subreaper
	b.spec.Process.Args = []string{"sh", "-c", "for i in $(seq 50); do sh -c 'sleep 0.01 & exit'; done; sleep 1000"}
	b.start()
	b.eventually("reaping", func() bool {
		s, err := b.m.Stats(b.ctx)
		b.must(err)
		return s.Reaped >= 50
	})
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, true))
	b.exit()
}

func TestProcessLeftBehindWithStdoutDoesNotDelayTheExit(t *testing.T) {
	b := newBox(t, "sh", "-c", "(sleep 1; echo late; sleep 1000) & echo early; exit 3")
	b.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	b.start()
	began := time.Now()
	if e := b.exit(); e.Code() != 3 || time.Since(began) > 500*time.Millisecond {
		t.Errorf("after %v: %+v", time.Since(began), e)
	}
	b.eventually("the late line", func() bool { out, _ := b.log(); return out == "early\nlate\n" })
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, true))
}

func TestMegabyteWrittenRightBeforeTheExitIsLogged(t *testing.T) {
	b := newBox(t, "sh", "-c", "seq 150000; seq 100000 >&2").start()
	e := b.exit()
	out, errs := b.log()
	if strings.Count(out, "\n") != 150000 || !strings.HasSuffix(out, "\n150000\n") || strings.Count(errs, "\n") != 100000 || e.LogLines != 250000 {
		t.Errorf("%d and %d lines, exit %+v", strings.Count(out, "\n"), strings.Count(errs, "\n"), e)
	}
}

func TestShutdownRefusesARunningContainer(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	var failed *launch.Error
	if err := b.m.Shutdown(b.ctx); !errors.As(err, &failed) || failed.Kind != launch.KindInvalid {
		t.Errorf("got %v", err)
	}
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, false))
	b.exit()
	b.must(b.m.Shutdown(b.ctx))
	if alive(b.m.MonitorPID()) {
		t.Error("the monitor is still there")
	}
	b.must(b.m.Shutdown(b.ctx)) // gone already
}

func TestManyShortContainersAtOnceLeaveNothing(t *testing.T) {
	before := children(t)
	t.Run("containers", func(t *testing.T) {
		for i := range 6 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for k := range 8 {
					b := newBox(t, "sh", "-c", fmt.Sprintf("echo %d; exit %d", k, k)).start()
					if e := b.exit(); e.Code() != int32(k) {
						t.Errorf("exit %+v", e)
					}
					if out, _ := b.log(); out != fmt.Sprintln(k) {
						t.Errorf("log %q", out)
					}
					b.must(b.m.Shutdown(b.ctx))
				}
			})
		}
	})
	if after := children(t); after != before {
		t.Errorf("children were %q, are %q", before, after)
	}
}

// children are the processes that this one has not reaped.
func children(t *testing.T) (pids string) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		raw, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		pids += string(raw)
	}
	return pids
}

func TestStoppedMonitorHoldsTheContainerAtItsPipeAndLosesNothing(t *testing.T) {
	b := newBox(t, "sh", "-c", "seq 500000").create()
	b.must(b.m.StartContainer(b.ctx))
	syscall.Kill(b.m.MonitorPID(), syscall.SIGSTOP)
	time.Sleep(300 * time.Millisecond)
	syscall.Kill(b.m.MonitorPID(), syscall.SIGCONT)
	b.exit()
	if out, _ := b.log(); strings.Count(out, "\n") != 500000 || !strings.HasSuffix(out, "\n500000\n") {
		t.Errorf("%d lines", strings.Count(out, "\n"))
	}
}

func TestDestroyEndsAContainerThatRuns(t *testing.T) {
	b := newBox(t, "sh", "-c", "trap '' TERM; while true; do sleep 1; done").start()
	pid := b.m.PID()
	b.must(b.m.Destroy(b.ctx))
	if alive(pid) || alive(b.m.MonitorPID()) {
		t.Error("something is still there")
	}
	if e, err := client.ReadExit(b.dir); err != nil || e.Signal() != 9 {
		t.Errorf("exit %+v, %v", e, err)
	}
	b.m = nil
}

func TestStartThatIsAskedForAgainHasTheOutcomeOfTheFirst(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	b.must(b.m.StartContainer(b.ctx))
	b.must(b.m.Destroy(b.ctx))
	b.m = nil
}
