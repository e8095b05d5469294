package client_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
)

// spare starts one for the box, and returns it with its processes when the launcher waits.
func (b *box) spare() (s *client.Spare, monitor, launcher int) {
	b.Helper()
	home := b.spares()
	s, err := client.StartSpare(home, b.spawn)
	b.must(err)
	b.eventually("a spare whose launcher waits", func() bool {
		for pid, args := range commands() {
			switch strings.TrimRight(args, " ") {
			case "vitrine-monitor " + home:
				monitor = pid
			case "vitrine-launch " + home:
				launcher = pid
			}
		}

		return monitor != 0 && launcher != 0 && b.waits(launcher)
	})
	return s, monitor, launcher
}

// spares is where the box's spares have their log.
func (b *box) spares() string { return filepath.Dir(b.dir) + "/s" }

// waits reports whether a thread of the process is in recvmsg of its descriptor 6.
func (b *box) waits(pid int) bool {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, path := range paths {
		raw, _ := os.ReadFile(path)
		if fields := strings.Fields(string(raw)); len(fields) > 1 && fields[0] == strconv.Itoa(syscall.SYS_RECVMSG) && fields[1] == "0x6" {
			return true
		}
	}
	return false
}

// sparesLeft are the command lines of the box's spares.
func (b *box) sparesLeft() (left []string) {
	for pid, args := range commands() {
		if strings.Contains(args, " "+b.spares()) {
			left = append(left, fmt.Sprintf("%d: %s", pid, args))
		}
	}
	return left
}

func (b *box) noSpares() {
	b.Helper()
	b.eventually("the end of all spares", func() bool { return len(b.sparesLeft()) == 0 })
}

func (b *box) writeSpec() {
	b.Helper()
	raw, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(b.dir+"/config.json", raw, 0o600))
}

func TestSpareBecomesTheMonitorOfAContainer(t *testing.T) {
	for _, c := range []struct {
		name     string
		terminal bool
		stdin    bool
	}{{name: "streams"}, {name: "stdin", stdin: true}, {name: "terminal", terminal: true}, {name: "terminal with stdin", terminal: true, stdin: true}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, "sh", "-c", "echo up; echo oops >&2; exec sleep 1000").traced()
			traces := collect(t, b.spawn.TelemetrySocket)
			b.spawn.Terminal, b.spec.Process.Terminal, b.spawn.Stdin = c.terminal, c.terminal, c.stdin
			b.spawn.OOMScoreAdj = 7
			b.writeSpec()
			spare, monitor, launcher := b.spare()
			if !spare.Serves(b.spawn) {
				t.Fatal("it does not serve what it was started for")
			}
			early, err := client.StartEarly(b.ctx, b.spawn, spare)
			b.must(err)
			b.eventually("the container's place", func() bool {
				now := commands()
				return now[monitor] == "vitrine-monitor "+b.dir && now[launcher] == "vitrine-launch "+b.spawn.Request
			})
			b.m, b.made, err = early.Proceed()
			b.must(err)
			if !early.UsedSpare() || b.m.MonitorPID() != monitor {
				t.Errorf("the monitor is %d, the spare was %d", b.m.MonitorPID(), monitor)
			}
			b.must(b.m.StartContainer(b.ctx))
			b.eventually("its output", func() bool {
				out, errs := b.log()
				return strings.Contains(out, "up") && strings.Contains(out+errs, "oops")
			})

			proc := fmt.Sprintf("/proc/%d/", monitor)
			for file, want := range map[string]string{"comm": "vitrine-monitor\n", "oom_score_adj": "7\n", "cmdline": "vitrine-monitor\x00" + b.dir + "\x00"} {
				if raw, _ := os.ReadFile(proc + file); string(raw) != want {
					t.Errorf("its %s is %q, want %q", file, raw, want)
				}
			}
			for file, want := range map[string]string{"cwd": b.dir, "fd/2": b.dir + "/monitor.log"} {
				if at, _ := os.Readlink(proc + file); at != want {
					t.Errorf("its %s is %s, want %s", file, at, want)
				}
			}
			if left := b.sparesLeft(); len(left) > 0 {
				t.Errorf("spares are left: %v", left)
			}

			b.eventually("the spans", func() bool { return len(traces.named("monitor.create")) == 1 })
			ready, create := traces.named("monitor.ready"), traces.named("monitor.create")[0]
			if len(ready) != 1 || ready[0].EndTimeUnixNano > create.StartTimeUnixNano {
				t.Fatalf("monitor.ready %v, monitor.create %v", ready, create)
			}
			for name, parent := range map[string][]byte{"monitor.wake": ready[0].SpanId, "monitor.prepare": ready[0].SpanId, "launch.wake": ready[0].SpanId, "launch.request": create.SpanId} {
				if got := traces.named(name); len(got) != 1 || string(got[0].ParentSpanId) != string(parent) || got[0].StartTimeUnixNano < ready[0].StartTimeUnixNano {
					t.Errorf("%s: %v", name, got)
				}
			}
			for _, name := range []string{"monitor.boot", "monitor.spawn", "launch.init", launch.StepWait} {
				if got := traces.named(name); len(got) != 0 {
					t.Errorf("%s is no part of this start, got %v", name, got)
				}
			}
		})
	}
}

func TestSpareThatIsNotTakenLeavesNothing(t *testing.T) {
	b := newBox(t, "true")
	spare, _, _ := b.spare()
	b.must(spare.Close())
	b.noSpares()
}

func TestSpareEndsWithItsLauncher(t *testing.T) {
	b := newBox(t, "true")
	spare, _, launcher := b.spare()
	b.must(syscall.Kill(launcher, syscall.SIGKILL))
	b.eventually("its end", func() bool { return !spare.Alive() && !spare.Serves(b.spawn) })
	b.must(spare.Close())
	b.noSpares()
}

// A spare that is killed when it has been taken, but nothing is made, is no loss.
func TestSpareThatDiesInTimeIsReplaced(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo up")
	b.writeSpec()
	spare, monitor, _ := b.spare()
	b.must(syscall.Kill(monitor, syscall.SIGSTOP))
	early, err := client.StartEarly(b.ctx, b.spawn, spare)
	b.must(err)
	b.must(syscall.Kill(monitor, syscall.SIGKILL))
	b.whenWaiting()
	b.m, b.made, err = early.Proceed()
	b.must(err)
	if early.UsedSpare() || b.m.MonitorPID() == monitor {
		t.Error("it was not replaced")
	}
	b.must(b.m.StartContainer(b.ctx))
	b.eventually("its output", func() bool { out, _ := b.log(); return out == "up\n" })
	b.noSpares()
}

func TestSpareIsNotWantedWithoutItsContainer(t *testing.T) {
	b := newBox(t, "true")
	spare, monitor, launcher := b.spare()
	early, err := client.StartEarly(b.ctx, b.spawn, spare)
	b.must(err)
	b.must(early.Cancel())
	b.eventually("its end", func() bool { now := commands(); return now[monitor] == "" && now[launcher] == "" })
	b.noSpares()
}

func TestSpareServesOnlyWhatItWasStartedLike(t *testing.T) {
	b := newBox(t, "true")
	copied := filepath.Dir(b.dir) + "/vitrine-monitor"
	program, err := os.ReadFile(monitorPath)
	b.must(err)
	b.must(os.WriteFile(copied, program, 0o755))
	b.spawn.MonitorPath = copied
	spare, _, _ := b.spare()
	defer spare.Close()
	for name, change := range map[string]func(*client.Spawn){
		"another monitor":    func(s *client.Spawn) { s.MonitorPath = monitorPath },
		"another cgroup":     func(s *client.Spawn) { s.Cgroup = "/sys/fs/cgroup" },
		"a longer directory": func(s *client.Spawn) { s.Dir += "/below" },
	} {
		if other := b.spawn; spare.Serves(other) {
			change(&other)
			if spare.Serves(other) {
				t.Errorf("it serves %s", name)
			}
		} else {
			t.Errorf("it does not serve at all")
		}
	}
	b.must(os.Chtimes(copied, time.Time{}, time.Now().Add(time.Hour))) // as an upgrade would
	if spare.Serves(b.spawn) {
		t.Error("it serves although its program was replaced")
	}
}

// What a spare may cost, in kB of private memory: its launcher, and the container's monitor
// that it becomes, which has no more than any other.
const spareLauncherLimit = 12 << 10

func TestSpareIsSmallAndNotWoken(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	b.writeSpec()
	spare, monitor, launcher := b.spare()
	time.Sleep(2 * time.Second) // its buffers are given back
	woken := func() int { return switches(t, monitor) + switches(t, launcher) }
	before := woken()
	time.Sleep(5 * time.Second)
	if n := woken() - before; n > 4 { // the Go runtime's monitor threads look once a minute
		t.Errorf("%d context switches in five idle seconds", n)
	}
	private := func(pid int) int { return field(t, pid, "smaps_rollup", "Private_Dirty") }
	own := private(launcher)
	t.Logf("private dirty: monitor %d kB, launcher %d kB; PSS %d and %d kB", private(monitor), own,
		field(t, monitor, "smaps_rollup", "Pss"), field(t, launcher, "smaps_rollup", "Pss"))
	if own > spareLauncherLimit {
		t.Errorf("the launcher that waits has %d kB, limit %d", own, spareLauncherLimit)
	}
	early, err := client.StartEarly(b.ctx, b.spawn, spare)
	b.must(err)
	b.m, b.made, err = early.Proceed()
	b.must(err)
	b.must(b.m.StartContainer(b.ctx))
	b.eventually("little memory", func() bool { return private(monitor) <= idleLimit })
	fresh := newBox(t, "sleep", "1000").start()
	time.Sleep(2 * time.Second)
	t.Logf("private dirty of the container's monitor: %d kB, of one that was no spare %d kB", private(monitor), private(fresh.m.MonitorPID()))
}
