package libct_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
)

// external makes a box for an external runtime.
func external(t *testing.T, name string, args ...string) *box {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("the OCI runtime %s is not installed", name)
	}
	b := newBox(t, args...)
	b.runtime.Path = path
	return b
}

// startExternal starts the container by the runtime itself.
func (b *box) startExternal() {
	b.Helper()
	if reply := b.run(launch.Request{Op: launch.OpStart}, nil, nil, nil); reply.Error != nil {
		b.Fatalf("start: %s", reply.Error.Message)
	}
}

func TestExternalRuntimeRunsAContainer(t *testing.T) {
	b := external(t, "runc", "sh", "-c", "hostname; echo err >&2; sleep 1000")
	b.create()
	b.startExternal()
	pid, out, failed := b.tryExec(b.process("sh", "-c", "hostname; exit 5"))
	if failed != nil {
		t.Fatal(failed)
	}
	if status := b.wait(pid); status.ExitStatus() != 5 || out.String() != "box\n" {
		t.Errorf("exec: %v, %q", status, out.String())
	}
	if _, _, e := b.tryExec(b.process("nosuch")); e == nil || e.Kind != launch.KindNotFound || e.Message != `exec "nosuch": executable file not found in $PATH` {
		t.Errorf("exec of a missing command: %+v", e)
	}
	b.must(syscall.Kill(b.pid, syscall.SIGKILL))
	b.wait(b.pid)
	if got := b.stdout.String(); !strings.HasPrefix(got, "box\nerr\n") {
		t.Errorf("output %q", got)
	}
	if _, _, e := b.tryExec(b.process("true")); e == nil || e.Kind != launch.KindGone {
		t.Errorf("exec in a stopped container: %+v", e)
	}
	var names []string
	for _, s := range b.reply.Steps {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "launch.init launch.request libct.spec runtime.create") {
		t.Errorf("steps %s", got)
	}
	b.remove()
	b.remove()
}

func TestExternalRuntimeGivesATerminal(t *testing.T) {
	b := external(t, "runc", "sh", "-c", "tty; stty size")
	b.spec.Process.Terminal = true
	b.spec.Process.ConsoleSize = &specs.Box{Width: 101, Height: 33}
	b.writeSpec()
	reply, master := b.withConsole(launch.Request{Op: launch.OpCreate})
	b.pid = reply.PID
	b.startExternal()
	b.wait(b.pid)
	if got := readAll(master); got != "/dev/pts/0\n33 101\n" {
		t.Errorf("got %q", got)
	}
}

func TestExternalRuntimesErrorIsReadable(t *testing.T) {
	b := external(t, "runc", "nosuch")
	e := b.tryCreate()
	if e == nil || e.Kind != launch.KindNotFound || e.Step != "runtime.create" || e.Message != `exec "nosuch": executable file not found in $PATH` {
		t.Fatalf("got %+v", e)
	}
}

// Crun before 1.9 knows no hybrid hierarchy: its refusal must be as readable as another's error.
func TestCrunWorksOrRefusesReadably(t *testing.T) {
	b := external(t, "crun", "sh", "-c", "echo fine")
	b.spec.Version = "1.0.2" // the newest that it knows
	e := b.tryCreate()
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil && e != nil {
		if !strings.HasPrefix(e.Message, "crun: ") || strings.Contains(e.Message, "exit status") {
			t.Fatalf("got %+v", e)
		}
		t.Logf("refused: %s: %s", e.Kind, e.Message)
		return
	}
	if e != nil {
		t.Fatal(e)
	}
	b.startExternal()
	b.wait(b.pid)
	if got := b.stdout.String(); got != "fine\n" {
		t.Errorf("got %q", got)
	}
}

func TestMissingRuntimeIsNamed(t *testing.T) {
	b := newBox(t, "true")
	b.runtime.Path = "/nosuch/runtime"
	e := b.tryCreate()
	b.runtime.Path = ""
	if e == nil || !strings.Contains(e.Message, "/nosuch/runtime") {
		t.Fatalf("got %+v", e)
	}
}

func TestFeaturesAreTold(t *testing.T) {
	for _, name := range []string{"", "runc", "crun"} {
		t.Run("runtime "+name, func(t *testing.T) {
			b := newBox(t, "true")
			if name != "" {
				path, err := exec.LookPath(name)
				if err != nil {
					t.Skipf("the OCI runtime %s is not installed", name)
				}
				b.runtime.Path = path
			}
			reply := b.run(launch.Request{Op: launch.OpFeatures}, nil, nil, nil)
			b.runtime.Path = ""
			if reply.Error != nil {
				t.Fatal(reply.Error)
			}
			var f launch.Features
			b.must(json.Unmarshal(reply.Features, &f))
			t.Logf("%s", reply.Features)
			if f.Runtime == "" || f.Version == "" {
				t.Errorf("runtime %q, version %q", f.Runtime, f.Version)
			}
			if name == "" && (!f.RecursiveReadOnlyMounts || !f.UserNamespaces || !f.IDMappedMounts || len(f.SeccompActions) < 5) {
				t.Errorf("this kernel can do more: %+v", f)
			}
		})
	}
}
