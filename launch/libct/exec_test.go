package libct_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
)

// running starts a container that does nothing.
func running(t testing.TB) *box {
	t.Helper()
	b := newBox(t, "sleep", "1000")
	b.create()
	b.start()
	return b
}

func TestExecRunsInsideTheContainer(t *testing.T) {
	b := running(t)
	p := b.process("sh", "-c", "hostname; readlink /proc/self/ns/pid; id -u; ls /proc/self/fd; exit 9")
	p.User.UID = 1000
	pid, out, failed := b.tryExec(p)
	if failed != nil {
		t.Fatal(failed)
	}
	if got := b.wait(pid).ExitStatus(); got != 9 {
		t.Errorf("exit code %d", got)
	}
	text := out.String()
	host, err := os.Readlink("/proc/self/ns/pid")
	b.must(err)
	if !strings.HasPrefix(text, "box\npid:[") || strings.Contains(text, host) || !strings.Contains(text, "]\n1000\n") {
		t.Errorf("got %q", text)
	}
	if !strings.Contains(text, "0\n1\n2\n3\n") || strings.Contains(text, "\n4\n") {
		t.Errorf("descriptors leak: %q", text)
	}
}

func TestExecJoinsTheCgroupAndTheFilter(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}}}
	b.create()
	b.start()
	pid, out, failed := b.tryExec(b.process("sh", "-c", "mkdir /tmp/x || echo refused; grep Seccomp: /proc/self/status; cat /proc/self/cgroup"))
	if failed != nil {
		t.Fatal(failed)
	}
	b.wait(pid)
	text := out.String()
	if !strings.Contains(text, "refused") || !strings.Contains(text, "Seccomp:\t2") || strings.Contains(text, "/..") {
		t.Errorf("got %q", text)
	}
}

func TestExecFailuresAreExplained(t *testing.T) {
	b := running(t)
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/odd"), []byte("\x7fELF but not really"), 0o755))
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/script"), []byte("#!/nosuch\n"), 0o755))
	for _, c := range []struct {
		name string
		p    specs.Process
		kind launch.Kind
		want string
	}{
		{"not in PATH", b.process("nosuch"), launch.KindNotFound, `exec "nosuch": executable file not found in $PATH`},
		{"missing", b.process("/nosuch"), launch.KindNotFound, `exec "/nosuch": no such file or directory`},
		{"not executable", b.process("/etc/passwd"), launch.KindNotExecutable, `exec "/etc/passwd": permission denied`},
		{"wrong format", b.process("/bin/odd"), launch.KindNotExecutable, `exec "/bin/odd": exec format error`},
		{"missing interpreter", b.process("/bin/script"), launch.KindNotFound, `exec "/bin/script": no such file or directory`},
		{"empty", b.process(), launch.KindInvalid, "process.args is empty"},
		{"working directory missing", func() specs.Process { p := b.process("true"); p.Cwd = "/nosuch"; return p }(), launch.KindInvalid, `working directory "/nosuch": no such file or directory`},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid, out, e := b.tryExec(c.p)
			if e == nil {
				t.Fatalf("started as %d", pid)
			}
			if e.Kind != c.kind || !strings.HasPrefix(e.Message, c.want) {
				t.Errorf("got %s in %s: %s", e.Kind, e.Step, e.Message)
			}
			if text := out.String(); text != "" {
				t.Errorf("the session's output has %q", text)
			}
		})
	}
}

func TestExecInAStoppedContainerIsGone(t *testing.T) {
	b := running(t)
	b.must(syscall.Kill(b.pid, syscall.SIGKILL))
	b.wait(b.pid)
	if _, _, e := b.tryExec(b.process("true")); e == nil || e.Kind != launch.KindGone {
		t.Errorf("stopped: got %+v", e)
	}
	b.remove()
	if _, _, e := b.tryExec(b.process("true")); e == nil || e.Kind != launch.KindGone {
		t.Errorf("removed: got %+v", e)
	}
}

func TestDeleteKillsLeftoversAndIsIdempotent(t *testing.T) {
	b := newBox(t, "sh", "-c", "sleep 1000 & exec sleep 1000")
	// without a pid namespace of its own, nothing ends the child with the init
	b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:]
	b.create()
	b.start()
	pid, _, failed := b.tryExec(b.process("sleep", "1000"))
	if failed != nil {
		t.Fatal(failed)
	}
	b.must(syscall.Kill(b.pid, syscall.SIGKILL))
	b.wait(b.pid)
	b.remove()
	if status := b.wait(pid); status.Signal() != syscall.SIGKILL {
		t.Errorf("the exec session ended with %v", status)
	}
	for _, left := range b.census() {
		t.Error("left behind: ", left)
	}
	b.remove()
}

func TestDeleteEndsARunningContainer(t *testing.T) {
	b := running(t)
	done := make(chan syscall.WaitStatus)
	go func() { done <- b.wait(b.pid) }() // the monitor reaps
	b.remove()
	if status := <-done; status.Signal() != syscall.SIGKILL {
		t.Errorf("status %v", status)
	}
}

func TestDeleteRemovesWhatACutOffCreateLeft(t *testing.T) {
	b := newBox(t, "true")
	b.writeSpec()
	b.must(os.MkdirAll(filepath.Join(b.root, b.id), 0o700)) // as before the state is written
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		b.must(os.MkdirAll(filepath.Join("/sys/fs/cgroup/memory", b.parent, b.id), 0o755))
	}
	b.remove()
	for _, left := range b.census() {
		t.Error("left behind: ", left)
	}
}

func TestDeleteRemovesAContainerWhoseStateIsDamaged(t *testing.T) {
	b := running(t)
	b.must(os.WriteFile(filepath.Join(b.root, b.id, "state.json"), []byte("{"), 0o600))
	done := make(chan struct{})
	go func() { defer close(done); b.remove() }()
	if status := b.wait(b.pid); status.Signal() != syscall.SIGKILL {
		t.Errorf("status %v", status)
	}
	<-done
	for _, left := range b.census() {
		t.Error("left behind: ", left)
	}
}
