package libct_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/enter"
)

// enterer is the program under test, built when it is first needed.
func (b *box) enterer() string {
	b.Helper()
	path := filepath.Join(filepath.Dir(launcher), "vitrine-enter")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if out, err := exec.Command("../../cmd/vitrine-enter/build", path).CombinedOutput(); err != nil {
			b.Fatalf("build: %v\n%s", err, out)
		}
	}
	return path
}

// entering is a running container whose exec sessions need no libcontainer any more.
func entering(t *testing.T, change func(*specs.Spec), args ...string) *box {
	t.Helper()
	if len(args) == 0 {
		args = []string{"sleep", "1000"}
	}
	b := newBox(t, args...)
	b.cache, b.filters = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "filters")
	if change != nil {
		change(b.spec)
	}
	b.create()
	b.start()
	pid, _, failed := b.tryExec(b.process("true"))
	if failed != nil {
		t.Fatal(failed)
	}
	b.wait(pid)
	return b
}

// tryEnter is tryExec without libcontainer.
func (b *box) tryEnter(p specs.Process) (pid int, out *output, failed *launch.Error) {
	b.Helper()
	facts, err := enter.ReadFacts(b.bundle)
	b.must(err)
	var filter enter.Filter
	if facts.Filter != "" {
		filter, err = enter.ReadFilter(facts.Filter)
		b.must(err)
	}
	plan, err := enter.Plan(facts, filter, &p)
	b.must(err)
	return b.carryOut(plan)
}

// carryOut has vitrine-enter do what the plan says.
func (b *box) carryOut(plan []byte) (pid int, out *output, failed *launch.Error) {
	b.Helper()
	path := filepath.Join(b.bundle, "plan")
	b.must(os.WriteFile(path, plan, 0o600))
	pidfd, err := unix.PidfdOpen(b.pid, 0)
	b.must(err)
	defer unix.Close(pidfd)
	mine, its, err := os.Pipe()
	b.must(err)
	defer mine.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	b.must(err)
	defer null.Close()
	w, out := b.pipe()
	begun := time.Now()
	helper, err := syscall.ForkExec(b.enterer(), []string{"vitrine-enter", path}, &syscall.ProcAttr{
		Files: []uintptr{null.Fd(), w.Fd(), w.Fd(), its.Fd(), ^uintptr(0), uintptr(pidfd)},
	})
	b.must(err)
	its.Close()
	w.Close()
	text, err := io.ReadAll(mine)
	b.must(err)
	b.Logf("answered after %v", time.Since(begun))
	var status syscall.WaitStatus
	_, err = syscall.Wait4(helper, &status, 0, nil)
	b.must(err)
	reply, err := launch.ParseReply(string(text))
	if err != nil {
		b.Fatalf("%v: %q (status %v)", err, text, status)
	}
	if (reply.Error == nil) != (status.ExitStatus() == 0) || reply.Error == nil && len(reply.Steps) != 3 {
		b.Errorf("answered %+v and ended with %v", reply, status)
	}
	return reply.PID, out, reply.Error
}

// portrait prints all that a process can be told apart by.
const portrait = `cat /proc/self/status /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/mountinfo
cat /proc/self/personality /proc/self/loginuid /proc/self/timerslack_ns
ls -l /proc/self/ns /proc/self/fd; pwd; env; id; echo $0 $*; cat /proc/self/attr/current /proc/self/attr/apparmor/current; mkdir /denied && busybox rmdir /denied
set -- $(cat /proc/$$/stat); [ "$1" = "$6" ] && echo leads its session; echo tty $7 nice ${19} policy ${41}`

// own are the words that differ from one process to the next.
var own = regexp.MustCompile(`(?m)^(Pid|Tgid|Ngid|NSpid|NStgid|NSpgid|NSsid|PPid|Vm\w+|Rss\w+|\w*voluntary_ctxt_switches|HugetlbPages|Threads|Kthread|SigQ):.*|pipe:\[\d+\]|, \d+ = \d+|\w\w\w +\d+ \d\d:\d\d|/proc/\d+/fd|"\d+" = "\d+"|self/fd/\d+|\d+ -> /proc/\d+/fd`)

// look runs portrait both ways and returns what came out.
func (b *box) look(p specs.Process) (libcontainer, entered string) {
	b.Helper()
	for _, way := range []struct {
		try  func(specs.Process) (int, *output, *launch.Error)
		text *string
	}{{b.tryExec, &libcontainer}, {b.tryEnter, &entered}} {
		pid, out, failed := way.try(p)
		if failed != nil {
			b.Fatal(failed)
		}
		if status := b.wait(pid); status != 0 {
			b.Errorf("ended with %v", status)
		}
		*way.text = own.ReplaceAllString(out.String(), "…")
	}
	return libcontainer, entered
}

func TestEnteredProcessIsLibcontainers(t *testing.T) {
	capable := []string{"CAP_NET_BIND_SERVICE", "CAP_CHOWN"}
	for name, c := range map[string]struct {
		spec    func(*specs.Spec)
		process func(*specs.Process)
		lines   []string // that must be there

		confined bool // the profile must be loaded
	}{
		"root":               {lines: []string{"uid=0(root) gid=0(root)", "NoNewPrivs:\t1", "HOME=/", "leads its session"}},
		"user, without HOME": {process: func(p *specs.Process) { p.User.UID, p.User.GID = 1000, 1000 }, lines: []string{"uid=1000(user)", "HOME=/"}},
		"nobody in passwd":   {process: func(p *specs.Process) { p.User.UID = 4711 }, lines: []string{"uid=4711", "HOME=/"}},
		"groups":             {process: func(p *specs.Process) { p.User.AdditionalGids = []uint32{5, 4000000000} }, lines: []string{"Groups:\t5 4000000000"}},
		"ambient capabilities": {process: func(p *specs.Process) {
			p.User.UID = 7
			p.Capabilities = &specs.LinuxCapabilities{Bounding: capable, Effective: capable, Permitted: capable, Inheritable: capable, Ambient: capable}
		}, lines: []string{"CapAmb:\t0000000000000401"}},
		"no capabilities": {process: func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{} }, lines: []string{"CapBnd:\t0000000000000000"}},
		"environment set twice": {process: func(p *specs.Process) {
			p.Env = []string{"A=1", "PATH=/nowhere", "HOME=", "A=2", "PATH=/none:/bin", "B="}
		}, lines: []string{"A=2", "HOME=/", "B="}},
		"HOME given":        {process: func(p *specs.Process) { p.Env = append(p.Env, "HOME=/data") }, lines: []string{"HOME=/data"}},
		"working directory": {process: func(p *specs.Process) { p.Cwd = "/data" }, lines: []string{"/data"}},
		"limits": {process: func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 78}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}, lines: []string{"77                   78"}},
		"score":                     {process: func(p *specs.Process) { p.OOMScoreAdj = ptr(333) }, spec: func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(999) }, lines: []string{"333"}},
		"path to the command":       {process: func(p *specs.Process) { p.Args[0] = "/bin/sh" }},
		"relative path to it":       {process: func(p *specs.Process) { p.Args[0], p.Cwd = "bin/sh", "/" }},
		"filter, no new privileges": {spec: func(s *specs.Spec) { s.Linux.Seccomp = ordinaryProfile(t) }, lines: []string{"Seccomp:\t2", "Seccomp_filters:\t1"}},
		"filter, new privileges":    {spec: func(s *specs.Spec) { s.Linux.Seccomp = ordinaryProfile(t); s.Process.NoNewPrivileges = false }, lines: []string{"Seccomp:\t2", "NoNewPrivs:\t0"}},
		"filter with a flag": {spec: func(s *specs.Spec) {
			s.Linux.Seccomp = ordinaryProfile(t)
			s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}
		}, lines: []string{"Speculation_Store_Bypass"}},
		"host's network and processes": {spec: func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}}
		}},
		"namespace given by path": {spec: func(s *specs.Spec) { s.Linux.Namespaces[1].Path = otherNetwork(t) }},
		"AppArmor profile":        {confined: true, spec: func(s *specs.Spec) { s.Process.ApparmorProfile = profileName }, lines: append(confinement, "NoNewPrivs:\t1")},
		"AppArmor profile, new privileges": {confined: true, spec: func(s *specs.Spec) {
			s.Process.ApparmorProfile, s.Process.NoNewPrivileges = profileName, false
		}, lines: append(confinement, "NoNewPrivs:\t0")},
		"AppArmor profile, but none of the session's": {confined: true, spec: func(s *specs.Spec) { s.Process.ApparmorProfile = profileName },
			process: func(p *specs.Process) { p.ApparmorProfile = "" }, lines: []string{"unconfined\nunconfined"}},
		"AppArmor profile of the session's own": {confined: true, process: func(p *specs.Process) { p.ApparmorProfile = profileName }, lines: confinement},
		"AppArmor profile, filter and user": {confined: true, spec: func(s *specs.Spec) {
			s.Process.ApparmorProfile, s.Linux.Seccomp = profileName, ordinaryProfile(t)
		}, process: func(p *specs.Process) { p.User.UID, p.Capabilities = 1000, &specs.LinuxCapabilities{} },
			lines: []string{confinement[0], "Seccomp:\t2", "uid=1000(user)"}},
		"read-only root":   {spec: func(s *specs.Spec) { s.Root.Readonly = true }},
		"read-only passwd": {process: func(p *specs.Process) { p.User.UID = 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.confined {
				loadProfile(t)
			}
			b := entering(t, c.spec)
			p := b.process("sh", "-c", portrait, "zero", "one", "")
			if c.process != nil {
				c.process(&p)
			}
			want, got := b.look(p)
			if got != want {
				t.Errorf("they differ:\n%s", differing(want, got))
			}
			for _, line := range c.lines {
				if !strings.Contains(got, line) {
					t.Errorf("%q is missing in\n%s", line, got)
				}
			}
		})
	}
}

// otherNetwork is the path of a network namespace that is not the tests'.
func otherNetwork(t *testing.T) string {
	t.Helper()
	c := exec.Command("sleep", "1000")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return "/proc/" + itoa(c.Process.Pid) + "/ns/net"
}

// differing are the lines of two texts that are in one alone.
func differing(a, b string) string {
	var out strings.Builder
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range as {
		if !slices.Contains(bs, l) {
			out.WriteString("- " + l + "\n")
		}
	}
	for _, l := range bs {
		if !slices.Contains(as, l) {
			out.WriteString("+ " + l + "\n")
		}
	}
	return out.String()
}

func TestEnteredProcessHasTheContainersFilter(t *testing.T) {
	for name, profile := range profiles(t) {
		t.Run(name, func(t *testing.T) {
			b := entering(t, func(s *specs.Spec) { s.Linux.Seccomp = profile })
			pid, _, failed := b.tryEnter(b.process("sleep", "1000"))
			if failed != nil {
				t.Fatal(failed)
			}
			if d := difference(t, b.loadedFilter(pid), b.loadedFilter(b.pid)); d != "" {
				t.Errorf("the filter differs: %s", d)
			}
		})
	}
}

// What it cannot do or must not do it leaves to libcontainer, having started nothing.
func TestEnterDeclinesWhatIsNotAsExpected(t *testing.T) {
	b := entering(t, nil)
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/odd"), []byte("\x7fELF but not really"), 0o755))
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/script"), []byte("#!/nosuch\n"), 0o755))
	for name, c := range map[string]struct {
		change func(*specs.Process)
		step   string
	}{
		"not in PATH":                 {func(p *specs.Process) { p.Args = []string{"nosuch"} }, "enter.lookup"},
		"missing":                     {func(p *specs.Process) { p.Args = []string{"/nosuch"} }, "enter.lookup"},
		"a directory":                 {func(p *specs.Process) { p.Args = []string{"/etc"} }, "enter.lookup"},
		"not executable":              {func(p *specs.Process) { p.Args = []string{"/etc/passwd"} }, "enter.lookup"},
		"without PATH":                {func(p *specs.Process) { p.Env = nil }, "enter.lookup"},
		"relative PATH":               {func(p *specs.Process) { p.Env = []string{"PATH=bin"} }, "enter.lookup"},
		"empty last element":          {func(p *specs.Process) { p.Env = []string{"PATH=/none:"} }, "enter.lookup"},
		"long name":                   {func(p *specs.Process) { p.Args = []string{strings.Repeat("x", 5000)} }, "enter.lookup"},
		"wrong format":                {func(p *specs.Process) { p.Args = []string{"/bin/odd"} }, "enter.execute"},
		"missing interpreter":         {func(p *specs.Process) { p.Args = []string{"script"} }, "enter.execute"},
		"missing working directory":   {func(p *specs.Process) { p.Cwd = "/nosuch" }, "enter.directory"},
		"host's directory by a link":  {func(p *specs.Process) { p.Cwd = "/proc/self/fd/3" }, "enter.directory"},
		"host's directory by another": {func(p *specs.Process) { p.Cwd = "/proc/self/fd/6" }, "enter.directory"},
		"a limit that cannot be":      {func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}} }, "enter.limits"},
		"a score that cannot be":      {func(p *specs.Process) { p.OOMScoreAdj = ptr(2000) }, "enter.score"},
		"a profile that is not there": {func(p *specs.Process) { p.ApparmorProfile = "vitrine-test-nosuch" }, "enter.apparmor"},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.process("true")
			c.change(&p)
			pid, out, failed := b.tryEnter(p)
			if failed == nil {
				t.Fatalf("started as %d", pid)
			}
			if failed.Step+" " != c.step+" " {
				t.Errorf("declined in %s: %s", failed.Step, failed.Message)
			}
			if text := out.String(); text != "" {
				t.Errorf("it wrote %q", text)
			}
		})
	}
	t.Run("a plan of another version", func(t *testing.T) {
		p := b.process("true")
		plan, err := enter.Plan(enter.Facts{}, nil, &p)
		b.must(err)
		plan[7]-- // the last byte of its magic, the version
		if _, _, failed := b.carryOut(plan); failed == nil || failed.Step != "enter.plan" {
			t.Errorf("got %+v", failed)
		}
	})
	t.Run("a stopped container", func(t *testing.T) {
		b.must(syscall.Kill(b.pid, syscall.SIGKILL))
		var info unix.Siginfo
		b.must(unix.Waitid(unix.P_PID, b.pid, &info, unix.WEXITED|unix.WNOWAIT, nil))
		if _, _, failed := b.tryEnter(b.process("true")); failed == nil || failed.Step != "enter.join" {
			t.Errorf("got %+v", failed)
		}
	})
}

func TestFrozenContainerIsNotEntered(t *testing.T) {
	b := entering(t, nil)
	facts, err := enter.ReadFacts(b.bundle)
	b.must(err)
	if facts.Freezer == "" {
		t.Fatal("nothing tells whether the container is frozen")
	}
	frozen, thawed := "FROZEN", "THAWED"
	if facts.Thawed == "0" {
		frozen, thawed = "1", "0"
	}
	b.must(os.WriteFile(facts.Freezer, []byte(frozen), 0))
	t.Cleanup(func() { _ = os.WriteFile(facts.Freezer, []byte(thawed), 0) })
	if _, _, failed := b.tryEnter(b.process("true")); failed == nil || failed.Step != "enter.freezer" {
		t.Errorf("got %+v", failed)
	}
}

// A container that asks for what vitrine-enter does not know has no facts.
func TestOddContainersHaveNoFacts(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"umask":       func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o27)) },
		"personality": func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} },
		"scheduler":   func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch} },
		"users": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "sleep", "1000")
			change(b.spec)
			if failed := b.tryCreate(); failed != nil {
				t.Fatal(failed)
			}
			if f, err := enter.ReadFacts(b.bundle); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it has %+v, %v", f, err)
			}
		})
	}
}

// Its reference to the keyring is all that tells from outside who has joined one.
func TestEnteredProcessHasTheContainersKeyring(t *testing.T) {
	b := entering(t, nil)
	line := regexp.MustCompile(`(?m)^\w+ \S+ +(\d+) .* _ses\.` + b.id + `: `)
	users := func() int {
		raw, err := os.ReadFile("/proc/keys")
		b.must(err)
		found := line.FindStringSubmatch(string(raw))
		if found == nil {
			t.Fatalf("no keyring of the container in\n%s", raw)
		}
		n, err := strconv.Atoi(found[1])
		b.must(err)
		return n
	}
	const sessions = 8
	for range sessions {
		if _, _, failed := b.tryEnter(b.process("sleep", "1000")); failed != nil {
			t.Fatal(failed)
		}
	}
	// Credentials that are gone hold their keyring until the kernel gets to free them: what
	// counts is the number that has not changed for a second.
	n, since := users(), time.Now()
	for deadline := since.Add(time.Minute); time.Since(since) < time.Second && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if now := users(); now != n {
			n, since = now, time.Now()
		}
	}
	if n <= sessions { // the init has it, too
		t.Errorf("%d have it, with %d sessions", n, sessions)
	}
}

// What loses its parent in a session stays below the session's process (decision 0082).
func TestEnteredProcessKeepsItsOrphans(t *testing.T) {
	b := entering(t, nil)
	pid, _, failed := b.tryEnter(b.process("sh", "-c", "sh -c 'sleep 2000 &'; sleep 1000"))
	if failed != nil {
		t.Fatal(failed)
	}
	path := "/proc/" + itoa(pid) + "/task/" + itoa(pid) + "/children"
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs CONFIG_PROC_CHILDREN: ", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		raw, err := os.ReadFile(path)
		b.must(err)
		children := strings.Fields(string(raw))
		if slices.ContainsFunc(children, func(child string) bool {
			command, _ := os.ReadFile("/proc/" + child + "/cmdline")
			return string(command) == "sleep\x002000\x00"
		}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("its children are %q", children)
		}
	}
}

func TestEnteredProcessIsInTheCgroupAtOnce(t *testing.T) {
	b := entering(t, nil)
	want, err := os.ReadFile("/proc/" + itoa(b.pid) + "/cgroup")
	b.must(err)
	for range 20 {
		pid, _, failed := b.tryEnter(b.process("sleep", "1000"))
		if failed != nil {
			t.Fatal(failed)
		}
		got, err := os.ReadFile("/proc/" + itoa(pid) + "/cgroup")
		b.must(err)
		if string(got) != string(want) {
			t.Fatalf("it is in\n%s, not in\n%s", got, want)
		}
		b.must(syscall.Kill(pid, syscall.SIGKILL))
		b.wait(pid)
	}
}
