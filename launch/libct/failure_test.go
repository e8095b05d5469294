package libct_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
)

// Each bad specification gets a kind and one line that names the cause, and leaves
// nothing behind (the box's clean-up checks that).
func TestBadSpecificationsAreExplained(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		spoil func(*box)
		kind  launch.Kind
		want  string
	}{
		{"command not in PATH", []string{"nosuch"}, nil, launch.KindNotFound, `exec "nosuch": executable file not found in $PATH`},
		{"command path missing", []string{"/opt/nosuch"}, nil, launch.KindNotFound, `exec "/opt/nosuch": no such file or directory`},
		{"command not executable", []string{"/etc/passwd"}, nil, launch.KindNotExecutable, `exec "/etc/passwd": permission denied`},
		{"command is a directory", []string{"/etc"}, nil, launch.KindNotExecutable, `exec "/etc": is a directory`},
		{"no command", []string{}, nil, launch.KindInvalid, "process.args is empty"},
		{"mount source missing", []string{"true"}, func(b *box) {
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/vol", Type: "bind", Source: "/nosuch/source", Options: []string{"bind"}})
		}, launch.KindInvalid, `mount "/nosuch/source" on "/vol": no such file or directory`},
		{"unknown file system", []string{"true"}, func(b *box) {
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/vol", Type: "nosuchfs", Source: "nosuchfs"})
		}, launch.KindInvalid, `mount "nosuchfs" on "/vol": no such device`},
		{"rootfs missing", []string{"true"}, func(b *box) { b.spec.Root.Path = "/nosuch/rootfs" }, launch.KindInvalid, "/nosuch/rootfs"},
		{"namespace missing", []string{"true"}, func(b *box) {
			b.spec.Linux.Namespaces[1].Path = "/nosuch/netns"
		}, launch.KindInvalid, "/nosuch/netns"},
		{"unknown sysctl", []string{"true"}, func(b *box) {
			b.spec.Linux.Sysctl = map[string]string{"net.nosuch": "1"}
		}, launch.KindInvalid, "nosuch"},
		{"working directory is a file", []string{"true"}, func(b *box) {
			b.spec.Process.Cwd = "/etc/passwd"
		}, launch.KindInvalid, "/etc/passwd"},
		{"memory limit too low", []string{"true"}, func(b *box) {
			b.spec.Linux.Resources.Memory.Limit = ptr(int64(4096))
		}, launch.KindInvalid, "memory limit"},
		{"unknown rlimit", []string{"true"}, func(b *box) {
			b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOSUCH"}}
		}, launch.KindInvalid, `unknown type "RLIMIT_NOSUCH"`},
		{"unknown seccomp action", []string{"true"}, func(b *box) {
			b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_NOSUCH"}
		}, launch.KindInvalid, "SCMP_ACT_NOSUCH"},
		{"bad id", []string{"true"}, func(b *box) { b.id = "../x" }, launch.KindInvalid, "invalid container ID"},
		{"terminal without console socket", []string{"true"}, func(b *box) { b.spec.Process.Terminal = true }, launch.KindInvalid, "console socket"},
		{"no linux section", []string{"true"}, func(b *box) { b.spec.Linux = nil }, launch.KindInvalid, "linux is missing"},
		{"hook fails", []string{"true"}, func(b *box) {
			b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/dev/null; echo too bad >&2; exit 3"}}}}
		}, launch.KindInternal, "createRuntime hook /bin/sh: exit status 3: too bad"},
		{"hook in the container's namespace fails", []string{"true"}, func(b *box) {
			b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/dev/null; echo too bad >&2; exit 3"}}}}
		}, launch.KindInternal, "createContainer hook /bin/sh: exit status 3: too bad"},
	} {
		bothWays(t, c.name, func(t *testing.T, enter func(*box)) {
			b := newBox(t, c.args...)
			enter(b)
			if c.spoil != nil {
				c.spoil(b)
			}
			e := b.tryCreate()
			if e == nil {
				t.Fatal("created")
			}
			if e.Kind != c.kind || !strings.Contains(e.Message, c.want) || strings.Contains(e.Message, "\n") || len(e.Message) > 300 {
				t.Errorf("got %s in %s: %s", e.Kind, e.Step, e.Message)
			}
			if c.name == "bad id" {
				b.id = "x" // for the clean-up
			}
			for _, left := range b.census() {
				t.Error("left behind: ", left)
			}
			t.Logf("%s %s: %s", e.Kind, e.Step, e.Message)
		})
	}
}

func TestSecondCreateOfAnIDIsRefusedAndHarmless(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo fine")
	b.create()
	reply := b.run(launch.Request{Op: launch.OpCreate}, nil, nil, nil)
	if reply.Error == nil || reply.Error.Kind != launch.KindInvalid || !strings.Contains(reply.Error.Message, "exists") {
		t.Fatalf("got %+v", reply.Error)
	}
	b.start()
	b.wait(b.pid)
	if out := b.stdout.String(); out != "fine\n" {
		t.Errorf("got %q", out)
	}
}

// What only execve knows reaches the starter through ExecFD.
func TestExecveThatFailsIsExplainedAtStart(t *testing.T) {
	for _, c := range []struct {
		name, text string
		kind       launch.Kind
		want       string
	}{
		{"wrong format", "\x7fELF but not really", launch.KindNotExecutable, `exec "/bin/odd": exec format error`},
		{"missing interpreter", "#!/nosuch/interpreter\n", launch.KindNotFound, `exec "/bin/odd": no such file or directory (its interpreter`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, "/bin/odd")
			b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/odd"), []byte(c.text), 0o755))
			b.create()
			e := b.tryStart()
			if e == nil || e.Kind != c.kind || !strings.HasPrefix(e.Message, c.want) {
				t.Errorf("got %+v", e)
			}
			if status := b.wait(b.pid); status.ExitStatus() != 255 {
				t.Errorf("status %v", status)
			}
			if out := b.stdout.String(); out != "" {
				t.Errorf("the container's log has %q", out)
			}
		})
	}
}

func TestExecveThatFailsWithoutExecFDGoesToStandardError(t *testing.T) {
	b := newBox(t, "/bin/odd")
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/odd"), []byte("\x7fELF but not really"), 0o755))
	b.writeSpec()
	w, out := b.pipe()
	reply := b.run(launch.Request{Op: launch.OpCreate}, nil, w, w)
	w.Close()
	if reply.Error != nil {
		t.Fatal(reply.Error)
	}
	b.pid = reply.PID
	fifo, err := os.Open(launch.ExecFifo(b.root, b.id))
	b.must(err)
	defer fifo.Close()
	if status := b.wait(b.pid); status.ExitStatus() != 255 {
		t.Errorf("status %v", status)
	}
	if got := out.String(); !strings.Contains(got, "exec format error") {
		t.Errorf("got %q", got)
	}
}
