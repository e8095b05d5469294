package libct_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// bearing is a container whose creation needs no libcontainer if it is ordinary: what the
// kernel makes of its filter is known.
func bearing(t testing.TB, change func(*box), args ...string) *box {
	t.Helper()
	b := newBox(t, args...)
	b.cache, b.filters = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "filters")
	if change != nil {
		change(b)
	}
	if b.spec.Linux.Seccomp != nil {
		b.enter = b.enterer()
		b.create()
		if b.reply.Way == launch.WayEnter {
			t.Fatal("made without knowing the filter")
		}
		b.again()
	}
	b.enter = b.enterer()
	return b
}

// again removes the container so that it can be created once more.
func (b *box) again() {
	b.Helper()
	b.exec.Close()
	if b.pid != 0 {
		_ = syscall.Kill(b.pid, syscall.SIGKILL)
		b.wait(b.pid)
	}
	b.remove()
	b.pid, b.exec = 0, nil
}

// likeness prints all that a container's first process can tell of itself and its container.
const likeness = portrait + `
echo "umask $(umask)"; hostname; ls -ld /proc/self/; ls -ln /proc/self/fd
ls -lnR /dev /sys/fs/cgroup/. 2>/dev/null | grep -v "^total" | head -400
for d in / /dev /dev/shm /dev/pts /proc /sys /data /tmp /etc /made /made/deep; do ls -lnd $d | sed "s/  *[0-9][0-9]* /  /"; done
for f in /proc/kcore /proc/keys /proc/timer_list; do ls -ln $f; dd if=$f bs=1 count=1 2>&1 | tail -1; done
ls -a /proc/acpi /proc/scsi /sys/firmware
for f in / /dev/x /dev/shm/x /sys/x /proc/sys/kernel/x /data/x; do echo >$f; done 2>&1
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced
ip link 2>/dev/null | grep -o "<[A-Z,_]*>"`

// The words of a likeness that differ from one container to the next.
var (
	nsNumber = regexp.MustCompile(`(\w+):\[(\d+)\]`)
	mountRow = regexp.MustCompile(`(?m)^(\d+) (\d+) (\d+:\d+) .*$`)
	peers    = regexp.MustCompile(`(shared|master|propagate_from):(\d+)`)
	stamp    = regexp.MustCompile(`(?m)(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d+ +[\d:]+`)
)

// comparable takes the numbers out that the kernel gives.
func comparable(text string) string {
	text = own.ReplaceAllString(text, "…")
	text = nsNumber.ReplaceAllStringFunc(text, func(s string) string {
		m := nsNumber.FindStringSubmatch(s)
		if host, _ := os.Readlink("/proc/self/ns/" + m[1]); host == s {
			return m[1] + " of the host"
		}
		return m[1] + " of its own"
	})
	text = stamp.ReplaceAllString(text, "…")
	ids := map[string]string{}
	number := func(kind, id string) string {
		if ids[kind+id] == "" {
			ids[kind+id] = fmt.Sprintf("%s%d", kind, len(ids))
		}
		return ids[kind+id]
	}
	text = mountRow.ReplaceAllStringFunc(text, func(s string) string {
		f := strings.Fields(s)
		f[0], f[1] = number("mount", f[0]), number("mount", f[1])
		if strings.HasPrefix(f[2], "0:") {
			f[2] = number("device", f[2])
		}
		return strings.Join(f, " ")
	})
	return peers.ReplaceAllStringFunc(text, func(s string) string {
		m := peers.FindStringSubmatch(s)
		return m[1] + ":" + number("group", m[2])
	})
}

// both runs the container both ways and returns what it wrote.
func (b *box) both() (libcontainer, entered, bare string) {
	b.Helper()
	for _, way := range []struct {
		enter, bare string
		text        *string
	}{{"", "", &libcontainer}, {b.enterer(), "", &entered}, {b.enterer(), b.bareSpace(), &bare}} {
		b.enter, b.bare = way.enter, way.bare
		text, code := b.runAll()
		if (way.enter != "") != (b.reply.Way == launch.WayEnter) {
			b.Fatalf("it was made by %q", b.reply.Way)
		}
		*way.text = comparable(text) + fmt.Sprintf("exit code %d\n", code)
		b.pid = 0
		b.again()
	}
	return libcontainer, entered, bare
}

// bareSpace is a mount namespace in which no path leads to anything of the container.
func (b *box) bareSpace() string {
	b.Helper()
	script := "mount -t tmpfs bare " + filepath.Dir(b.TempDir()) + " && echo ready && exec sleep 100000"
	cmd := exec.Command("/bin/busybox", "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	b.must(err)
	b.must(cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if n, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		b.Fatalf("a namespace to be born from: %v after %d bytes", err, n)
	}
	return fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)
}

func (b *box) mount(m ...specs.Mount) { b.spec.Mounts = append(b.spec.Mounts, m...) }

// volume is a directory of the host with a file in it, bound at dest.
func (b *box) volume(dest string, options ...string) specs.Mount {
	b.Helper()
	dir := b.TempDir()
	b.must(os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644))
	return specs.Mount{Destination: dest, Type: "bind", Source: dir, Options: append([]string{"rbind"}, options...)}
}

func withoutNamespace(s *specs.Spec, kinds ...specs.LinuxNamespaceType) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return slices.Contains(kinds, n.Type) })
}

func TestBornContainerIsLibcontainers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*box)
		lines  []string // that must be there
	}{
		"ordinary":          {nil, []string{"uid=0(root)", "NoNewPrivs:\t1", "leads its session", "umask 0022", "exit code 0"}},
		"user without HOME": {func(b *box) { b.spec.Process.User.UID, b.spec.Process.User.GID = 1000, 1000 }, []string{"uid=1000(user)", "HOME=/"}},
		"groups":            {func(b *box) { b.spec.Process.User.AdditionalGids = []uint32{5, 70000} }, []string{"Groups:\t5 70000"}},
		"capabilities ambient": {func(b *box) {
			b.spec.Process.User.UID = 7
			b.spec.Process.Capabilities.Inheritable, b.spec.Process.Capabilities.Ambient = []string{"CAP_CHOWN"}, []string{"CAP_CHOWN"}
		}, []string{"CapAmb:\t0000000000000001"}},
		"no capabilities": {func(b *box) { b.spec.Process.Capabilities = &specs.LinuxCapabilities{} }, []string{"CapBnd:\t0000000000000000"}},
		"limits": {func(b *box) {
			b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 78}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}, []string{"77                   78"}},
		"score":                     {func(b *box) { b.spec.Process.OOMScoreAdj = ptr(777) }, []string{"777"}},
		"new privileges":            {func(b *box) { b.spec.Process.NoNewPrivileges = false }, []string{"NoNewPrivs:\t0"}},
		"filter":                    {func(b *box) { b.spec.Linux.Seccomp = ordinaryProfile(t) }, []string{"Seccomp:\t2", "Seccomp_filters:\t1"}},
		"filter and new privileges": {func(b *box) { b.spec.Linux.Seccomp = ordinaryProfile(t); b.spec.Process.NoNewPrivileges = false }, []string{"Seccomp:\t2"}},
		"filter of a user":          {func(b *box) { b.spec.Linux.Seccomp = ordinaryProfile(t); b.spec.Process.User.UID = 1000 }, []string{"Seccomp:\t2", "uid=1000"}},
		"read-only root":            {func(b *box) { b.spec.Root.Readonly = true }, []string{"Read-only file system"}},
		"missing working directory": {func(b *box) { b.spec.Process.Cwd = "/made/deep" }, []string{"/made/deep"}},
		"host's network, processes and names": {func(b *box) {
			withoutNamespace(b.spec, specs.NetworkNamespace, specs.PIDNamespace, specs.UTSNamespace, specs.IPCNamespace)
			b.spec.Hostname = ""
		}, []string{"net of the host", "pid of the host"}},
		"pod's network":  {func(b *box) { b.spec.Linux.Namespaces[1].Path = otherNetwork(t) }, []string{"net of its own"}},
		"host's cgroups": {func(b *box) { withoutNamespace(b.spec, specs.CgroupNamespace) }, []string{"cgroup of the host"}},
		"host's cgroups, as pods have them": {func(b *box) {
			withoutNamespace(b.spec, specs.CgroupNamespace)
			b.spec.Mounts[6].Options = []string{"nosuid", "noexec", "nodev", "relatime", "ro"}
		}, nil},
		"writable sysfs and cgroups": {func(b *box) {
			b.spec.Mounts[5].Options = []string{"nosuid", "noexec", "nodev", "rw"}
			b.spec.Mounts[6].Options = []string{"nosuid", "noexec", "nodev", "rw"}
		}, nil},
		"nothing covered": {func(b *box) { b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = nil, nil }, nil},
		"covered once more": {func(b *box) {
			b.spec.Linux.MaskedPaths = []string{"/proc/acpi", "/etc/group", "/nosuch", "/sys/firmware", "/proc/acpi", "/data"}
		}, nil},
		"sysctls": {func(b *box) {
			b.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "42", "kernel.shm_rmid_forced": "1"}
		}, []string{"42\n1\n"}},
		"devices": {func(b *box) {
			mode := os.FileMode(0o640)
			b.spec.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/made/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: ptr(uint32(3)), GID: ptr(uint32(4))},
				{Path: "/dev/loop", Type: "b", Major: 7, Minor: 0},
			}
		}, []string{"10, 229"}},
		"volumes": {func(b *box) {
			b.mount(b.volume("/data", "rprivate"), b.volume("/vol/ro", "rprivate", "ro"), b.volume("/vol/slave", "rslave", "nosuid", "nodev"),
				b.volume("/vol/rro", "rprivate", "ro", "rro"), b.volume("/tmp", "rprivate", "rw", "noexec"))
		}, []string{"/vol/rro", "/data rw"}},
		"files": {func(b *box) {
			v := b.volume("/etc/hosts", "rprivate", "nosuid", "nodev", "noexec", "ro")
			v.Source += "/file"
			w := v
			w.Destination = "/made/file"
			b.mount(v, w)
		}, []string{"/made/file"}},
		"below a volume": {func(b *box) {
			b.mount(b.volume("/data", "rprivate"), b.volume("/data/below", "rprivate"), specs.Mount{Destination: "/data/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m", "mode=700", "ro"}})
		}, []string{"/data/below"}},
		"a tmpfs that is there": {func(b *box) {
			b.must(os.Chmod(filepath.Join(b.rootfs, "tmp"), 0o1777|os.ModeSticky))
			b.mount(specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noatime"}})
		}, nil},
		"links in the image": {func(b *box) {
			b.must(os.Symlink("/data", filepath.Join(b.rootfs, "link")))
			b.must(os.Symlink("../../../../../../../tmp", filepath.Join(b.rootfs, "out")))
			b.mount(b.volume("/link", "rprivate"), b.volume("/out/new", "rprivate"))
		}, []string{"/data rw", "/tmp/new rw"}},
		"AppArmor profile":                 {func(b *box) { b.confined() }, append(confinement, "NoNewPrivs:\t1")},
		"AppArmor profile, new privileges": {func(b *box) { b.confined(); b.spec.Process.NoNewPrivileges = false }, append(confinement, "NoNewPrivs:\t0")},
		"AppArmor profile, filter and user": {func(b *box) {
			b.confined()
			b.spec.Linux.Seccomp, b.spec.Process.User.UID = ordinaryProfile(b), 1000
		}, []string{confinement[0], "Seccomp:\t2", "uid=1000(user)"}},
		"slave root":   {func(b *box) { b.spec.Linux.RootfsPropagation = "rslave" }, nil},
		"private root": {func(b *box) { b.spec.Linux.RootfsPropagation = "private" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := bearing(t, c.change, "sh", "-c", likeness, "zero", "one", "")
			want, got, bare := b.both()
			if got != want {
				t.Errorf("they differ:\n%s", differing(want, got))
			}
			if bare != want {
				t.Errorf("born from a bare namespace it differs:\n%s", differing(want, bare))
			}
			for _, line := range c.lines {
				if !strings.Contains(got, line) {
					t.Errorf("%q is missing in\n%s", line, got)
				}
			}
			if t.Failed() {
				t.Logf("libcontainer's:\n%s\nborn:\n%s", want, got)
			}
		})
	}
}

// bothWays runs a test with libcontainer alone and with vitrine-enter before it.
func bothWays(t *testing.T, name string, test func(t *testing.T, enter func(*box))) {
	t.Helper()
	t.Run(name, func(t *testing.T) { test(t, func(*box) {}) })
	t.Run(name+", entered", func(t *testing.T) { test(t, func(b *box) { b.enter = b.enterer() }) })
}

// What an image or a volume does to the way is either led back below the root or left to
// libcontainer, whose answer stands. Nothing outside changes.
func TestHostileRootsAreAsSafeAsWithLibcontainer(t *testing.T) {
	const outside = "/tmp/vitrine-outside"
	link := func(b *box, text, at string) {
		at = filepath.Join(b.rootfs, at)
		b.must(os.RemoveAll(at))
		b.must(os.MkdirAll(filepath.Dir(at), 0o755))
		b.must(os.Symlink(text, at))
	}
	for name, c := range map[string]struct {
		change func(*box)
		born   bool
	}{
		"proc is a link": {func(b *box) { link(b, "/tmp", "proc") }, false},
		"proc is a file": {func(b *box) {
			b.must(os.Remove(b.rootfs + "/proc"))
			b.must(os.WriteFile(b.rootfs+"/proc", nil, 0o644))
		}, false},
		"sys is a link":                     {func(b *box) { link(b, "tmp", "sys") }, false},
		"dev is a link to the outside":      {func(b *box) { link(b, "/../../.."+outside, "dev"); b.must(os.MkdirAll(b.rootfs+outside, 0o755)) }, true},
		"dev is a link that leads nowhere":  {func(b *box) { link(b, "/nowhere", "dev") }, false},
		"volume over a link to the outside": {func(b *box) { link(b, outside, "vol"); b.mount(b.volume("/vol", "rprivate")) }, false},
		"volume below such a link": {func(b *box) {
			link(b, "../../../../../../../../..", "up")
			b.mount(b.volume("/up"+outside, "rprivate"))
		}, true},
		"volume over a circle of links":  {func(b *box) { link(b, "two", "one"); link(b, "one", "two"); b.mount(b.volume("/one/x", "rprivate")) }, false},
		"volume over a link into proc":   {func(b *box) { link(b, "/proc/sys", "vol"); b.mount(b.volume("/vol", "rprivate")) }, false},
		"volume over a magic link":       {func(b *box) { link(b, "/proc/self/root", "vol"); b.mount(b.volume("/vol"+outside, "rprivate")) }, false},
		"volume over a link to proc":     {func(b *box) { link(b, "/proc", "vol"); b.mount(b.volume("/vol", "rprivate")) }, false},
		"volume over a link to the root": {func(b *box) { link(b, "/", "vol"); b.mount(b.volume("/vol", "rprivate")) }, false},
		"volume over a file":             {func(b *box) { b.mount(b.volume("/etc/passwd", "rprivate")) }, false},
		"volume below a file":            {func(b *box) { b.mount(b.volume("/etc/passwd/x", "rprivate")) }, false},
		"tmpfs over a file":              {func(b *box) { b.mount(specs.Mount{Destination: "/etc/passwd", Type: "tmpfs", Source: "tmpfs"}) }, false},
		"covered path is a link": {func(b *box) {
			link(b, "../../../.."+outside, "cover")
			b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = []string{"/cover"}, []string{"/cover"}
		}, true},
		"working directory is a link":   {func(b *box) { link(b, "../../.."+outside, "cwd"); b.spec.Process.Cwd = "/cwd/x" }, false},
		"working directory of the host": {func(b *box) { b.spec.Process.Cwd = "/proc/self/fd/8" }, false},
		"command of the host":           {func(b *box) { b.spec.Process.Args = []string{"/proc/self/fd/8/1/exe"} }, false},
		"dev/shm is a link in a volume": {func(b *box) {
			v := b.volume("/v", "rprivate")
			b.must(os.Symlink("/.."+outside, v.Source+"/l"))
			b.mount(v, b.volume("/v/l/x", "rprivate"))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dir := range []string{outside, outside + "/x"} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			defer os.RemoveAll(outside)
			b := bearing(t, nil, "true")
			c.change(b)
			answer := func() string {
				if failed := b.tryCreate(); failed != nil {
					b.pid = 0
					return string(failed.Kind) + " " + failed.Message
				}
				return "made"
			}
			got, way := answer(), b.reply.Way
			b.again()
			b.enter = ""
			if want := answer(); got != want {
				t.Errorf("libcontainer: %s, with vitrine-enter before it: %s", want, got)
			}
			if born := way == launch.WayEnter; born != c.born {
				t.Errorf("made by %q", way)
			}
			t.Logf("%s (%s)", got, way)
			if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
				t.Errorf("outside there are %v, %v", left, err)
			}
			if left, err := os.ReadDir(outside + "/x"); err != nil || len(left) != 0 {
				t.Errorf("outside there are %v, %v", left, err)
			}
		})
	}
}

// Whoever shares a volume may exchange a directory in it for a link to the outside while
// the container's mounts are made below that.
func TestExchangedDirectoryOfAVolumeLeadsNowhereElse(t *testing.T) {
	outside := t.TempDir()
	b := bearing(t, nil, "true")
	v := b.volume("/data", "rprivate")
	at := filepath.Join(v.Source, "at")
	b.must(os.Mkdir(at, 0o755))
	b.must(os.Symlink(strings.Repeat("../", 20)+outside, at+"-link"))
	b.mount(v, b.volume("/data/at/made/below", "rprivate"),
		specs.Mount{Destination: "/data/at/tmp", Type: "tmpfs", Source: "tmpfs"})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, at, unix.AT_FDCWD, at+"-link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	born := 0
	for range 20 {
		if failed := b.tryCreate(); failed != nil {
			b.pid = 0
			t.Logf("refused: %s", failed.Message)
		} else if b.reply.Way == launch.WayEnter {
			born++
		}
		b.again()
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Fatalf("outside there are %v, %v", left, err)
		}
	}
	t.Logf("%d of 20 were made without libcontainer", born)
}

// What is declined is libcontainer's, with the reason on record and nothing left over.
func TestUnusualContainersAreLibcontainers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*box)
		cause  string
	}{
		"umask":          {func(b *box) { b.spec.Process.User.Umask = ptr(uint32(0o27)) }, "exec sessions"},
		"hook":           {func(b *box) { b.spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true"}}} }, "hooks"},
		"shared root":    {func(b *box) { b.spec.Linux.RootfsPropagation = "rshared" }, "shared"},
		"access times":   {func(b *box) { b.mount(b.volume("/data", "rprivate", "noatime")) }, "access times"},
		"unknown filter": {func(b *box) { b.spec.Linux.Seccomp = ordinaryProfile(b) }, "not known yet"},
		"procfs not first": {func(b *box) {
			b.spec.Mounts[0], b.spec.Mounts[1] = b.spec.Mounts[1], b.spec.Mounts[0]
		}, "procfs"},
		"host's dev": {func(b *box) {
			b.spec.Mounts[1] = specs.Mount{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind", "rprivate"}}
			b.spec.Mounts = slices.Delete(b.spec.Mounts, 2, 5)
		}, "/dev"},
		"no such program":    {func(b *box) { b.enter += "-nosuch" }, "no such file"},
		"another program":    {func(b *box) { b.enter = "/bin/true" }, "ended without an answer"},
		"passwd of a volume": {func(b *box) { b.spec.Linux.MaskedPaths = []string{"/etc/passwd"} }, "birth.home"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "true")
			b.cache, b.filters, b.enter = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "filters"), b.enterer()
			c.change(b)
			if _, code := b.runAll(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(b.reply.Way, c.cause) {
				t.Errorf("the reason is %q", b.reply.Way)
			}
		})
	}
}

// Exec sessions with and without libcontainer, and the removal, find what they need.
func TestBornContainerServesWhatNeedsLibcontainer(t *testing.T) {
	b := bearing(t, func(b *box) { b.spec.Linux.Seccomp = ordinaryProfile(b) }, "sleep", "1000")
	b.create()
	if b.reply.Way != launch.WayEnter {
		t.Fatalf("made by %q", b.reply.Way)
	}
	explained(t, b.reply, "launch.init", "launch.request", "libct.spec", "libct.config", "birth.plan", "birth.init", "birth.namespaces",
		"birth.cgroup", "birth.rootfs", "birth.pivot", "birth.cover", "birth.credentials", "birth.seccomp", "birth.ready", "launch.reply")
	b.start()
	want, got := b.look(b.process("sh", "-c", portrait))
	if got != want {
		t.Errorf("they differ:\n%s", differing(want, got))
	}
	if d := difference(t, b.loadedFilter(b.pid), b.loadedFilter(b.pid)); d != "" {
		t.Errorf("the filter differs: %s", d)
	}
	reply := b.run(launch.Request{Op: launch.OpDelete}, nil, nil, nil)
	if reply.Error != nil {
		t.Fatal(reply.Error)
	}
	if status := b.wait(b.pid); status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", status)
	}
	b.pid = 0
}

// An execve that the kernel refuses is told on the pipe, in libcontainer's words.
func TestBornContainersLateErrorIsLibcontainers(t *testing.T) {
	var told []string
	for _, entered := range []bool{false, true} {
		b := newBox(t, "/bin/odd")
		b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/odd"), []byte("\x7fELF but not really"), 0o755))
		if entered {
			b.enter = b.enterer()
		}
		b.create()
		failed := b.tryStart()
		if failed == nil || (b.reply.Way == launch.WayEnter) != entered {
			t.Fatalf("%+v, made by %q", failed, b.reply.Way)
		}
		told = append(told, string(failed.Kind)+" "+failed.Message)
		if status := b.wait(b.pid); status.ExitStatus() != 255 {
			t.Errorf("it ended with %v", status)
		}
	}
	if told[0] != told[1] {
		t.Errorf("libcontainer's %q is %q", told[0], told[1])
	}
}
