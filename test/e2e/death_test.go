package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// kill9 kills a process that is no child of this one and waits for its end.
func kill9(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
}

// written waits until the container has written something more than it had.
func written(t testing.TB, init int) {
	t.Helper()
	count := func() int {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", init))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), "wchar: ")
		n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
		return n
	}
	from, deadline := count(), time.Now().Add(harness.Scale(20*time.Second))
	for count() == from {
		if time.Now().After(deadline) {
			t.Fatalf("process %d writes nothing more", init)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestContainersLiveThroughTheDeathOfDaemonAndMonitors(t *testing.T) {
	for _, tc := range []struct {
		name string
		die  func(n *node, monitors []int, inits map[string]int)
	}{
		{"daemon first", func(n *node, monitors []int, _ map[string]int) {
			n.must(n.Kill9())
			for _, pid := range monitors {
				kill9(n, pid)
			}
		}},
		{"monitors first", func(n *node, monitors []int, _ map[string]int) {
			// Stopped, the daemon cannot put others in their place.
			n.must(syscall.Kill(n.PID(), syscall.SIGSTOP))
			for _, pid := range monitors {
				syscall.Kill(pid, syscall.SIGKILL) // it stays a zombie until the daemon dies
			}
			n.must(n.Kill9())
			for _, pid := range monitors {
				waitGone(n, pid)
			}
		}},
		{"trustee killed before", func(n *node, monitors []int, inits map[string]int) {
			dir := filepath.Join(n.State(), "trustee")
			old := findProcess("vitrine-monitor", dir)
			kill9(n, old)
			// The daemon entrusts everything anew.
			deadline := time.Now().Add(harness.Scale(20 * time.Second))
			for pid := 0; pid == 0 || pid == old || !holdsPipes(pid, inits); pid = findProcess("vitrine-monitor", dir) {
				if time.Now().After(deadline) {
					n.Fatalf("trustee %d, the old one was %d, does not hold the containers' pipes", pid, old)
				}
				time.Sleep(10 * time.Millisecond)
			}
			n.must(n.Kill9())
			for _, pid := range monitors {
				kill9(n, pid)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := start(t, harness.Options{})
			pod := n.HostPod("orphaned")
			sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
			writer, w := n.run(sandbox, pod, "writer", "/bin/payload", "write", "/tmp/end", "500", "7")
			ends, e := n.run(sandbox, pod, "ends", "/bin/sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done; echo last; echo words >&2; exit 42")
			terminal := harness.Container(pod, "terminal", n.image, "/bin/sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done; echo shown; exit 5")
			terminal.Tty = true
			tty := harness.Must(n.cri.Run(n.ctx, sandbox, pod, terminal))(t)
			inits, monitors := map[string]int{}, []int{}
			for _, id := range []string{writer, ends, tty} {
				inits[id] = initPID(t, n, id)
				monitors = append(monitors, processWith(t, "vitrine-monitor", filepath.Join(n.State(), "containers", id)))
			}
			written(t, inits[writer])
			tc.die(n, monitors, inits)
			// A second of writing without a reader: a broken pipe would have ended it.
			written(t, inits[writer])
			written(t, inits[writer])
			n.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/end", inits[ends]), nil, 0o644))
			waitGone(t, inits[ends])
			n.must(n.Start(n.ctx))

			if page := harness.Must(n.Metrics())(t); !strings.Contains(page, `vitrine_monitor_replacement_duration_seconds_count{outcome="ok"} 3`) {
				t.Error("metrics do not count three replaced monitors")
			}
			s := harness.Must(n.cri.WaitExit(n.ctx, ends))(t)
			if s.ExitCode != 42 && !(s.ExitCode == -1 && s.Reason == "MonitorLost" && !knowsExits(t)) {
				t.Errorf("ended while all were dead: exit %d, %s: %s", s.ExitCode, s.Reason, s.Message)
			}
			if log := harness.Must(harness.ReadLog(harness.LogPath(pod, e)))(t); string(log.Stdout) != "last\n" || string(log.Stderr) != "words\n" {
				t.Errorf("its log: %q, %q", log.Stdout, log.Stderr)
			}
			if r := harness.Must(n.cri.Exec(n.ctx, writer, 10, "echo", "alive"))(t); string(r.Stdout) != "alive\n" {
				t.Errorf("exec: %q", r.Stdout)
			}
			for id, code := range map[string]int32{writer: 7, tty: 5} {
				n.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/end", inits[id]), nil, 0o644))
				s := harness.Must(n.cri.WaitExit(n.ctx, id))(t)
				if s.ExitCode != code && !(s.ExitCode == -1 && s.Reason == "MonitorLost" && !knowsExits(t)) {
					t.Errorf("%s: exit %d, %s: %s, want %d", s.Metadata.Name, s.ExitCode, s.Reason, s.Message, code)
				}
			}
			log := harness.Must(harness.ReadLog(harness.LogPath(pod, w)))(t)
			lines, err := strconv.Atoi(strings.TrimSpace(string(log.Stderr)))
			n.must(err)
			checkLines(t, log.Stdout, lines)
			n.stdout(pod, terminal, "shown\r\n")
			n.must(n.cri.RemovePod(n.ctx, sandbox))
			n.nothingLeft()
		})
	}
}

// holdsPipes reports whether the process has all the pipes open that are the others'
// stdout or stderr.
func holdsPipes(pid int, others map[string]int) bool {
	held := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		held[to] = true
	}
	for _, other := range others {
		for fd := 1; fd <= 2; fd++ {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", other, fd)); strings.HasPrefix(to, "pipe:") && !held[to] {
				return false
			}
		}
	}
	return true
}

// knowsExits reports whether this kernel's pidfds know how a process ended that was
// reaped (PIDFD_INFO_EXIT, Linux 6.15).
func knowsExits(t testing.TB) bool {
	t.Helper()
	pidfd := -1
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	info := [8]uint64{1 << 3}                                                                           // struct pidfd_info of 64 bytes; the mask comes first
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), 0xc040ff0b, uintptr(unsafe.Pointer(&info))) // PIDFD_GET_INFO
	return e == 0 && info[0]&(1<<3) != 0
}
