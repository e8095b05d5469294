package ebpf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

const unused = 9999 // a file descriptor that nobody has

// playWatched are the parts whose syscalls are counted.
func playWatched(part string) {
	runtime.LockOSThread()
	switch part {
	case "count":
		for range 1000 {
			unix.Getppid()
		}
		for range 300 {
			unix.Fsync(unused)
		}
	case "rest":
		for range 20 {
			for rest := (unix.Timespec{Nsec: 5e6}); unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &rest, &rest) == unix.EINTR; {
			}
		}
	case "crash":
		for range 1000 {
			unix.Getppid()
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
	case "device":
		check(os.WriteFile(os.Getenv("PLAY_DEVICES")+"/cgroup.procs", []byte("0"), 0))
		unix.Openat(unix.AT_FDCWD, "/dev/full", unix.O_RDONLY, 0)
	case "paths": // more different denials than the ledger has room for
		for n := range 300 {
			unix.Openat(unix.AT_FDCWD, fmt.Sprintf("/proc/1/no/%d", n), unix.O_RDONLY, 0)
			unix.Mkdirat(unix.AT_FDCWD, fmt.Sprintf("%s/%d", os.Getenv("PLAY_DIR"), n), 0)
		}
	}
}

// playWork is the work that a profile is learned of, and one syscall more if asked. With
// a profile it first confines itself, as a launcher does.
func playWork() {
	if path := os.Getenv("PLAY_PROFILE"); path != "" {
		os.Unsetenv("PLAY_PROFILE")
		text, err := os.ReadFile(path)
		check(err)
		var profile specs.LinuxSeccomp
		check(json.Unmarshal(text, &profile))
		numbers := map[string]int{}
		for n := range ebpf.OtherSyscalls {
			numbers[ebpf.SyscallName(n)] = n
		}
		allow := map[int]uint32{}
		for _, rule := range profile.Syscalls {
			for _, name := range rule.Names {
				if n, ok := numbers[name]; ok {
					allow[n] = unix.SECCOMP_RET_ALLOW
				}
			}
		}
		confine(unix.SECCOMP_RET_ERRNO|uint32(*profile.DefaultErrnoRet), allow)
		check(unix.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	_, err := os.ReadFile("/etc/passwd")
	check(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		c, err := l.Accept()
		check(err)
		c.Write([]byte("hello"))
		c.Close()
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	check(err)
	hello, err := io.ReadAll(c)
	check(err)
	check(exec.Command("/bin/true").Run())
	fmt.Println(string(hello))
	if os.Getenv("PLAY_EXTRA") != "" {
		fmt.Println(unix.Sethostname([]byte("no")) == unix.EPERM)
	}
}

func watch(t *testing.T, p *ebpf.Programs, id uint64, o ebpf.WatchOptions) *ebpf.Watch {
	t.Helper()
	w, err := p.WatchSyscalls(id, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func call(t *testing.T, w *ebpf.Watch, number int) ebpf.Syscall {
	t.Helper()
	all, err := w.Syscalls()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Number == number {
			return s
		}
	}
	return ebpf.Syscall{}
}

// descriptors counts this process' own programs, links and maps of BPF.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range list {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "bpf") {
			n++
		}
	}
	return n
}

func TestSyscallsAreCountedWhileSomebodyAsks(t *testing.T) {
	p := open(t)
	idle := descriptors(t)
	dir, id := newCgroup(t, "", "count", 0)
	other, otherID := newCgroup(t, "", "other", 0)
	track(t, p, id)
	track(t, p, otherID)
	w := watch(t, p, id, ebpf.WatchOptions{})
	second := watch(t, p, id, ebpf.WatchOptions{Denials: true})
	beside := watch(t, p, otherID, ebpf.WatchOptions{})
	run := func(dir string, id uint64) {
		cmd, _, _ := startInit(t, p, dir, id, "watched count")
		wait(t, cmd)
	}
	expect := func(w *ebpf.Watch, times uint64) {
		t.Helper()
		if s := call(t, w, unix.SYS_GETPPID); s.Calls != 1000*times || s.Errors != 0 {
			t.Errorf("getppid: %+v, want %d", s, 1000*times)
		}
		if s := call(t, w, unix.SYS_FSYNC); s.Calls != 300*times || s.Errors != 300*times {
			t.Errorf("fsync: %+v, want %d, all of them errors", s, 300*times)
		}
	}
	run(dir, id)
	expect(w, 1)
	expect(second, 1)
	expect(beside, 0)
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Syscalls(); err == nil {
		t.Error("a stopped watch still answers")
	}
	run(dir, id)
	expect(w, 2)
	run(other, otherID)
	expect(w, 2)
	expect(beside, 1)
	for _, w := range []*ebpf.Watch{w, beside, w} {
		if err := w.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if left := descriptors(t); left != idle {
		t.Errorf("%d programs, links and maps, %d before", left, idle)
	}
	began := time.Now()
	w = watch(t, p, id, ebpf.WatchOptions{})
	t.Logf("loaded and attached in %v", time.Since(began))
	expect(w, 0)
	run(dir, id)
	expect(w, 1)
	// A slot that had another owner begins empty.
	beside = watch(t, p, otherID, ebpf.WatchOptions{Latency: true, Sample: 1, Flight: true})
	run(other, otherID)
	expect(beside, 1)
	if err := beside.Stop(); err != nil {
		t.Fatal(err)
	}
	beside = watch(t, p, otherID, ebpf.WatchOptions{Latency: true, Flight: true})
	expect(beside, 0)
	if f, err := beside.Flight(); err != nil || f.Ended || len(f.Calls) != 0 {
		t.Errorf("an earlier owner's flight: %+v, %v", f, err)
	}
}

func TestWatchesAreBounded(t *testing.T) {
	p := open(t)
	if _, err := p.WatchSyscalls(1, ebpf.WatchOptions{}); err == nil {
		t.Error("an untracked cgroup is watched")
	}
	for n := range uint64(17) {
		track(t, p, 1<<40+n)
		w, err := p.WatchSyscalls(1<<40+n, ebpf.WatchOptions{})
		if n < 16 && err != nil || n == 16 && !errors.Is(err, ebpf.ErrWatches) {
			t.Errorf("watch %d: %v", n, err)
		}
		if err == nil {
			defer w.Stop()
		}
	}
	if _, err := p.WatchSyscalls(1<<40, ebpf.WatchOptions{Latency: true, Sample: 3}); err == nil {
		t.Error("a sample of 3 is taken")
	}
}

func TestLatencyIsThatOfTheCalls(t *testing.T) {
	p := open(t)
	dir, id := newCgroup(t, "", "latency", 0)
	track(t, p, id)
	w := watch(t, p, id, ebpf.WatchOptions{Latency: true, Sample: 1})
	cmd, _, _ := startInit(t, p, dir, id, "watched rest")
	wait(t, cmd)
	s := call(t, w, unix.SYS_CLOCK_NANOSLEEP)
	samples := uint64(0)
	for _, n := range s.Latency {
		samples += n
	}
	// An interrupted sleep is one more call, and a short one.
	if s.Calls < 20 || samples != s.Calls || s.Quantile(0.9) < 4*time.Millisecond || s.Quantile(0.9) > time.Minute {
		t.Errorf("%d calls, %d samples, median %v, of %v", s.Calls, samples, s.Quantile(0.5), s.Latency)
	}
}

func TestFlightRecorderHasTheLastCalls(t *testing.T) {
	p := open(t)
	dir, id := newCgroup(t, "", "flight", 0)
	track(t, p, id)
	w := watch(t, p, id, ebpf.WatchOptions{Flight: true})
	cmd, _, _ := startInit(t, p, dir, id, "watched crash")
	wait(t, cmd)
	f, err := w.Flight()
	if err != nil {
		t.Fatal(err)
	}
	if !f.Ended || f.Status.Signal() != unix.SIGKILL || len(f.Calls) != 256 || f.Missed < 700 {
		t.Errorf("ended %v by %v, %d calls, %d missed", f.Ended, f.Status, len(f.Calls), f.Missed)
	}
	at := slices.IndexFunc(f.Calls, func(c ebpf.Call) bool { return c.Number == unix.SYS_KILL })
	if at < 100 || f.Calls[at].Arguments[1] != uint64(unix.SIGKILL) || f.Calls[at].Error() != 0 || f.Calls[at].Unfinished {
		t.Fatalf("kill is call %d of %+v", at, f.Calls)
	}
	before, thread := 0, f.Calls[at].TID
	for i, c := range f.Calls {
		if c.Number == unix.SYS_GETPPID && c.TID == thread && i < at {
			before++
		}
		if i > 0 && c.Time+time.Second < f.Calls[i-1].Time || c.Comm == "" {
			t.Errorf("%+v after %+v", c, f.Calls[i-1])
		}
	}
	if before < 100 {
		t.Errorf("%d calls of getppid before the end: %+v", before, f.Calls)
	}
}

// A thread that ends in a call has it as its last, and a call that returned is not told twice.
func TestFlightRecorderHasTheCallThatNeverReturned(t *testing.T) {
	p := open(t)
	for part, leaves := range map[string]bool{"exit 3": true, "abort": false} {
		t.Run(part, func(t *testing.T) {
			dir, id := newCgroup(t, "", "ends-"+part[:4], 0)
			track(t, p, id)
			w := watch(t, p, id, ebpf.WatchOptions{Flight: true})
			cmd, _, _ := startInit(t, p, dir, id, part)
			wait(t, cmd)
			f, err := w.Flight()
			if err != nil || !f.Ended {
				t.Fatalf("ended %v, %v", f.Ended, err)
			}
			left := 0
			for i, c := range f.Calls {
				if c.Unfinished && c.Number == unix.SYS_EXIT_GROUP {
					left++
				}
				if c.Unfinished && c.Number != unix.SYS_EXIT_GROUP { // a thread that is killed returns from its call first
					t.Errorf("call %d of %d: %+v", i, len(f.Calls), c)
				}
			}
			if (left == 1) != leaves {
				t.Errorf("%d times exit_group without a return: %+v", left, f.Calls)
			}
		})
	}
}

func TestLedgerIsBoundedPerContainer(t *testing.T) {
	p := open(t)
	dir, id := newCgroup(t, "", "bounded", 0)
	quietDir, quiet := newCgroup(t, "", "unbothered", 0)
	track(t, p, id)
	track(t, p, quiet)
	watch(t, p, id, ebpf.WatchOptions{Denials: true})
	place := filepath.Join(t.TempDir(), "ro")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", place, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(place, 0)
	cmd, _, _ := startInit(t, p, dir, id, "watched paths", "PLAY_DIR="+place)
	wait(t, cmd)
	all, lost, err := p.Denials(id)
	if err != nil || len(all) != 256 || lost != 300-256 {
		t.Errorf("%d denials, %d lost, %v", len(all), lost, err)
	}
	if denied, err := p.Denied(); err != nil || denied[ebpf.ReadOnly] != 300 {
		t.Errorf("all denials: %v, %v", denied, err)
	}
	wait(t, start(t, quietDir, "denied capabilities"))
	if all, lost, err := p.Denials(quiet); err != nil || len(all) != 3 || lost != 0 {
		t.Errorf("the neighbour's: %+v, %d lost, %v", all, lost, err)
	}
}

func TestDeviceCgroupsRefusalIsInTheLedger(t *testing.T) {
	p := open(t)
	devices := fmt.Sprintf("/sys/fs/cgroup/devices/vitrine-ebpf-%d", os.Getpid())
	if err := os.Mkdir(devices, 0o755); err != nil {
		if _, v1 := os.Stat("/sys/fs/cgroup/devices/devices.allow"); v1 == nil {
			t.Fatal(err)
		}
		t.Skip("needs the device cgroup of v1 (CONFIG_CGROUP_DEVICE): ", err)
	}
	t.Cleanup(func() {
		for range 200 {
			if os.Remove(devices) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left", devices)
	})
	if err := os.WriteFile(devices+"/devices.deny", []byte("c 1:7 rwm"), 0); err != nil {
		t.Fatal(err)
	}
	dir, id := newCgroup(t, "", "device", 0)
	track(t, p, id)
	watch(t, p, id, ebpf.WatchOptions{Denials: true})
	cmd, _, _ := startInit(t, p, dir, id, "watched device", "PLAY_DEVICES="+devices)
	wait(t, cmd)
	want := []line{{layer: ebpf.Permission, syscall: unix.SYS_OPENAT, capability: -1, error: unix.EPERM, path: "/dev/full", count: 1}}
	if have := ledger(t, p, id); !equalLines(have, want) {
		t.Errorf("have %+v, want %+v", have, want)
	}
}

func TestProfileKeepsTheAnswersOfTheProfileItWasLearnedUnder(t *testing.T) {
	calls := []ebpf.Syscall{
		{Number: unix.SYS_GETPPID, Calls: 3},
		{Number: unix.SYS_MOUNT, Calls: 2, Errors: 2, Refused: 2, Answer: unix.EPERM},
		{Number: unix.SYS_CLONE3, Calls: 1, Errors: 1, Refused: 1, Answer: unix.ENOSYS},
		{Number: unix.SYS_BPF, Calls: 1, Errors: 1, Refused: 1, Answer: unix.ENOSYS},
		{Number: unix.SYS_PERSONALITY, Calls: 5, Errors: 1, Refused: 1, Answer: unix.EPERM}, // by its argument
	}
	p, err := ebpf.Profile(calls)
	if err != nil {
		t.Fatal(err)
	}
	allowed := p.Syscalls[0].Names
	if p.DefaultAction != specs.ActErrno || len(p.Syscalls) != 2 || !slices.Contains(allowed, "getppid") || !slices.Contains(allowed, "personality") || slices.Contains(allowed, "mount") {
		t.Errorf("%+v", p)
	}
	if r := p.Syscalls[1]; r.Action != specs.ActErrno || *r.ErrnoRet != uint(unix.ENOSYS) || !slices.Equal(r.Names, []string{"bpf", "clone3"}) {
		t.Errorf("%+v", r)
	}
	for _, calls := range [][]ebpf.Syscall{{{Number: ebpf.OtherSyscalls, Calls: 1}}, {{Number: 500, Calls: 1}}} {
		if p, err := ebpf.Profile(calls); err == nil {
			t.Errorf("of %+v a profile is made: %+v", calls, p)
		}
	}
}

func TestLearnedProfileAllowsTheWorkAndNothingElse(t *testing.T) {
	p := open(t)
	dir, id := newCgroup(t, "", "learn", 0)
	track(t, p, id)
	w := watch(t, p, id, ebpf.WatchOptions{Denials: true})
	run := func(env ...string) string {
		t.Helper()
		cmd, _, out := startInit(t, p, dir, id, "work", env...)
		said, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if status := unix.WaitStatus(wait(t, cmd)); status != 0 {
			t.Fatalf("ended by %v, said %q", status, said)
		}
		return string(said)
	}
	run()
	calls, err := w.Syscalls()
	if err != nil {
		t.Fatal(err)
	}
	learned, err := ebpf.Profile(calls)
	if err != nil {
		t.Fatal(err)
	}
	names := learned.Syscalls[0].Names
	for _, name := range []string{"socket", "bind", "listen", "connect", "execve", "exit_group"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not in %v", name, names)
		}
	}
	for _, name := range []string{"sethostname", "mount", "setns", "ptrace"} {
		if slices.Contains(names, name) {
			t.Errorf("%s is in %v", name, names)
		}
	}
	if !w.Whole() {
		t.Error("a watch from before the first execve does not say so")
	}
	text, err := json.Marshal(learned)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if said := run("PLAY_PROFILE="+path, "PLAY_EXTRA=1"); said != "hello\ntrue\n" {
		t.Errorf("said %q", said)
	}
	want := []line{{layer: ebpf.Seccomp, syscall: unix.SYS_SETHOSTNAME, capability: -1, error: unix.EPERM, count: 1}}
	if have := ledger(t, p, id); !equalLines(have, want) {
		t.Errorf("have %+v, want %+v", have, want)
	}
	// What was refused while it was learned is not allowed by what is learned then.
	if s := call(t, w, unix.SYS_SETHOSTNAME); s.Calls != 1 || s.Refused != 1 || s.Answer != unix.EPERM {
		t.Errorf("the refused call: %+v", s)
	}
	calls, err = w.Syscalls()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ebpf.Profile(calls); err != nil || slices.Contains(again.Syscalls[0].Names, "sethostname") {
		t.Errorf("the second profile allows what the first refused: %+v, %v", again, err)
	}
}
