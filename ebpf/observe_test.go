package ebpf_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

func uintptrOf(p *[4]uint64) uintptr { return uintptr(unsafe.Pointer(p)) }

const mib = 1 << 20

// open opens the programs on a bpffs of the test's own, and checks that nothing stays.
func open(t *testing.T) *ebpf.Programs {
	t.Helper()
	p, _ := openAt(t)
	return p
}

// openAt is open that also tells where.
func openAt(t *testing.T) (*ebpf.Programs, string) {
	t.Helper()
	ebpf.Require(t)
	dir := filepath.Join(t.TempDir(), "bpf")
	p := openIn(t, dir)
	t.Cleanup(func() {
		if err := ebpf.Wipe(dir); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
		mounts, _ := os.ReadFile("/proc/self/mounts")
		if strings.Contains(string(mounts), dir) {
			t.Errorf("%s is still mounted", dir)
		}
	})
	t.Cleanup(func() { p.Close() })
	return p, dir
}

func openIn(t *testing.T, dir string) *ebpf.Programs {
	t.Helper()
	p, err := ebpf.Open(ebpf.Config{PinDir: dir, AllEvents: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Features() {
		if !f.OK {
			t.Fatalf("%s: %s", f.Name, f.Consequence)
		}
	}
	return p
}

type arrival struct {
	ebpf.Record
	at time.Duration
}

// listen collects events until the test ends.
func listen(t *testing.T, p *ebpf.Programs) <-chan arrival {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan arrival, 1000), make(chan error, 1)
	go func() {
		done <- p.Events(ctx, func(r ebpf.Record) { events <- arrival{r, sinceBoot()} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return events
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// next waits for an event of the kind about the cgroup.
func next(t *testing.T, events <-chan arrival, kind ebpf.Kind, cgroup uint64) arrival {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e := <-events:
			if e.Kind == kind && e.Cgroup == cgroup {
				return e
			}
		case <-timeout:
			t.Fatalf("no event of kind %d about cgroup %d", kind, cgroup)
		}
	}
}

func track(t *testing.T, p *ebpf.Programs, cgroup uint64) {
	t.Helper()
	if err := p.Track(cgroup); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Untrack(cgroup) })
}

func setInit(t *testing.T, p *ebpf.Programs, cgroup uint64, pid int) {
	t.Helper()
	if err := p.SetInit(cgroup, pid); err != nil {
		t.Fatal(err)
	}
}

func last(t *testing.T, p *ebpf.Programs, cgroup uint64) ebpf.Last {
	t.Helper()
	l, err := p.Last(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOOMKillNamesVictimAndLimit(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	for _, c := range []struct {
		name, init, joins string
		initDies          bool
	}{
		{"init", "hog 64", "", true},
		{"child", "parent hog 64", "", false},
		{"exec", "sleep", "hog 64", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, id := newCgroup(t, "", c.name, 24*mib)
			track(t, p, id)
			init := start(t, dir, c.init)
			setInit(t, p, id, init.Process.Pid)
			if c.joins != "" {
				start(t, dir, c.joins)
			}
			e := next(t, events, ebpf.OOM, id)
			o := e.OOM
			if e.Init != c.initDies || (e.Task.TGID == init.Process.Pid) != c.initDies {
				t.Errorf("victim %+v init %v, PID 1 is %d", e.Task, e.Init, init.Process.Pid)
			}
			if o.Level != ebpf.Container || o.LevelCgroup != id || o.Limit != 24*mib || o.TriggerOutside || o.Swap || o.Dying || o.Kills != 1 {
				t.Errorf("kill: %+v", o)
			}
			if o.Usage+64*4096 < o.Limit || o.Usage > o.Limit+64*4096 || o.Anon < 12*mib || o.Anon > 25*mib { // charges are made in batches, and tried before they are undone
				t.Errorf("usage %d anon %d of limit %d", o.Usage, o.Anon, o.Limit)
			}
			// PID 1 is still beginning, and may be the one that asks for the page too many.
			if o.Trigger.TGID != e.Task.TGID && o.Trigger.TGID != init.Process.Pid || o.Trigger.Cgroup != id || e.Task.Comm != "exe" {
				t.Errorf("victim %+v trigger %+v", e.Task, o.Trigger)
			}
			switch c.name {
			case "init":
				wait(t, init)
			case "child":
				if status := wait(t, init); status.ExitStatus() != 7 {
					t.Errorf("PID 1 ended by %v", status)
				}
			}
			l := last(t, p, id)
			if l.OOM == nil || (l.InitOOM != nil) != c.initDies || l.OOMKills != 1 {
				t.Errorf("last: %+v", l)
			}
		})
	}
}

func TestOOMUnderParentLimitIsNotTheVictimsOwn(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	pod, podID := newCgroup(t, "", "pod", 64*mib)
	victimDir, victim := newCgroup(t, pod, "victim", 0)
	siblingDir, sibling := newCgroup(t, pod, "sibling", 0)
	track(t, p, victim)
	track(t, p, sibling)
	holder := exec.Command("/proc/self/exe")
	holder.Env = append(os.Environ(), "PLAY=hold 40", "PLAY_CGROUP="+victimDir)
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	setInit(t, p, victim, holder.Process.Pid)
	io.ReadFull(out, make([]byte, 6))
	hog := start(t, siblingDir, "hog 36")
	e := next(t, events, ebpf.OOM, victim)
	if o := e.OOM; !e.Init || o.Level != ebpf.Above || o.LevelCgroup != podID || o.Limit != 64*mib || o.Trigger.Cgroup != sibling || o.Trigger.TGID != hog.Process.Pid || o.TriggerOutside {
		t.Errorf("%+v %+v", e.Record, e.OOM)
	}
	holder.Wait()
	// The kernel may need both; what counts is whom it says it killed.
	if l, want := last(t, p, sibling), kernelKills(t, siblingDir); l.OOMKills != want || (l.OOM != nil) != (want > 0) {
		t.Errorf("sibling: the kernel counts %d kills, we %d: %+v", want, l.OOMKills, l.OOM)
	}
}

func TestCgroupBelowATrackedOneBelongsToIt(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	dir, id := newCgroup(t, "", "outer", 0)
	inner, innerID := newCgroup(t, dir, "inner", 24*mib)
	track(t, p, id)
	wait(t, start(t, inner, "hog 64"))
	if e := next(t, events, ebpf.OOM, id); e.OOM.Level != ebpf.Below || e.OOM.LevelCgroup != innerID || e.Task.Cgroup != innerID {
		t.Errorf("%+v %+v", e.Record, e.OOM)
	}
}

func TestWhoEndedIt(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	dir, id := newCgroup(t, "", "victim", 0)
	siblingDir, sibling := newCgroup(t, "", "sibling", 0)
	track(t, p, id)
	begin := func(t *testing.T, part string) *exec.Cmd {
		cmd := start(t, dir, part)
		setInit(t, p, id, cmd.Process.Pid)
		next(t, events, ebpf.Exec, id)
		return cmd
	}
	end := func(t *testing.T, cmd *exec.Cmd, sig unix.Signal) arrival {
		t.Helper()
		e := next(t, events, ebpf.Signal, id)
		status := wait(t, cmd)
		x := next(t, events, ebpf.Exit, id)
		if e.Signal.Number != sig || !e.Init || status.Signal() != sig || x.Exit.Status.Signal() != sig || x.Exit.Parent.TGID != os.Getpid() {
			t.Errorf("told %+v, wait %v, exit %+v", e.Signal, status, x.Exit)
		}
		if l := last(t, p, id); l.InitSignal == nil || l.InitSignal.Signal.Sender != e.Signal.Sender || l.InitExit == nil {
			t.Errorf("last: %+v", l)
		}
		return e
	}
	t.Run("host", func(t *testing.T) {
		cmd := begin(t, "sleep")
		cmd.Process.Kill()
		if s := end(t, cmd, unix.SIGKILL).Signal; s.Kernel || s.Sender.TGID != os.Getpid() || s.Sender.UID != 0 || s.Sender.Comm == "" || s.Sender.Cgroup == id {
			t.Errorf("%+v", s)
		}
	})
	t.Run("sibling", func(t *testing.T) {
		cmd := begin(t, "sleep")
		killer := start(t, siblingDir, "kill "+itoa(cmd.Process.Pid))
		if s := end(t, cmd, unix.SIGKILL).Signal; s.Kernel || s.Sender.TGID != killer.Process.Pid || s.Sender.Cgroup != sibling {
			t.Errorf("%+v", s)
		}
		wait(t, killer)
	})
	t.Run("itself", func(t *testing.T) {
		cmd := begin(t, "abort")
		if s := end(t, cmd, unix.SIGABRT).Signal; s.Kernel || s.Sender.TGID != cmd.Process.Pid || s.Sender.Cgroup != id {
			t.Errorf("%+v", s)
		}
	})
	t.Run("fault", func(t *testing.T) {
		cmd := begin(t, "fault")
		if s := end(t, cmd, unix.SIGSEGV).Signal; !s.Kernel || s.Address == 0 || s.Address%4096 != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestExecAndExitAreTold(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	dir, id := newCgroup(t, "", "life", 0)
	track(t, p, id)
	var late []time.Duration
	for code := range 30 {
		cmd := start(t, dir, "exit "+itoa(code))
		e := next(t, events, ebpf.Exec, id)
		late = append(late, e.at-e.Time)
		if e.Exec.Filename != "/proc/self/exe" || e.Task.TGID != cmd.Process.Pid {
			t.Errorf("%+v %+v", e.Record, e.Exec)
		}
		x := next(t, events, ebpf.Exit, id)
		if x.Exit.Status.ExitStatus() != code || x.Task.TGID != cmd.Process.Pid || x.Exit.Parent.TGID != os.Getpid() {
			t.Errorf("%+v %+v", x.Record, x.Exit)
		}
		wait(t, cmd)
	}
	slices.Sort(late)
	t.Logf("from the kernel to the reader: median %v, max %v", late[len(late)/2], late[len(late)-1])
	if late[len(late)/2] > 10*time.Millisecond && os.Getenv("VITRINE_TEST_SLOW") == "" {
		t.Errorf("median %v, promised are 10 ms at the 99th percentile", late[len(late)/2])
	}
	if lost, err := p.Lost(); err != nil || lost != (ebpf.Loss{}) {
		t.Errorf("lost %+v, %v", lost, err)
	}
	if err := p.Untrack(id); err != nil {
		t.Fatal(err)
	}
	wait(t, start(t, dir, "exit 3"))
	if l := last(t, p, id); l.Exit != nil || l.InitExit != nil {
		t.Errorf("an untracked cgroup has %+v", l)
	}
}

func TestProgramsOutliveTheirLoader(t *testing.T) {
	p, pins := openAt(t)
	dir, id := newCgroup(t, "", "restart", 24*mib)
	track(t, p, id)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, start(t, dir, "hog 64")) // nobody is there
	p = openIn(t, pins)
	defer p.Close()
	if tracked, err := p.Tracked(); err != nil || !slices.Equal(tracked, []uint64{id}) {
		t.Errorf("tracked %v, %v", tracked, err)
	}
	if l := last(t, p, id); l.OOM == nil || l.OOMKills != 1 {
		t.Errorf("last %+v", l)
	}
	if e := next(t, listen(t, p), ebpf.OOM, id); e.OOM.Limit != 24*mib {
		t.Errorf("%+v", e.OOM)
	}
	wait(t, start(t, dir, "hog 64"))
	if l := last(t, p, id); l.OOMKills != 2 {
		t.Errorf("%d kills counted: attached twice or not at all", l.OOMKills)
	}
}

func TestTheSameBuildTakesItsPinsOver(t *testing.T) {
	p, dir := openAt(t)
	cgroupDir, id := newCgroup(t, "", "takeover", 24*mib)
	track(t, p, id)
	marks, err := filepath.Glob(filepath.Join(dir, "v*", "built-*"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("words of the build: %v, %v", marks, err)
	}
	next := openIn(t, dir)
	defer next.Close()
	if !next.Observes(ebpf.OOM) || !next.Observes(ebpf.Signal) {
		t.Error("taken over, and something is not observed")
	}
	wait(t, start(t, cgroupDir, "hog 64"))
	if l := last(t, next, id); l.OOMKills != 1 {
		t.Errorf("%d kills counted", l.OOMKills)
	}
	// Without a link the word is not believed.
	if err := os.Remove(filepath.Join(filepath.Dir(marks[0]), "link-mark_victim")); err != nil {
		t.Fatal(err)
	}
	again := openIn(t, dir)
	defer again.Close()
	if _, err := os.Stat(filepath.Join(filepath.Dir(marks[0]), "link-mark_victim")); err != nil {
		t.Errorf("the link was not made anew: %v", err)
	}
}

func TestManyKillsAreNeitherLostNorMixedUp(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	type place struct {
		dir string
		id  uint64
	}
	var places []place
	for i := range 4 {
		dir, id := newCgroup(t, "", "many"+itoa(i), 20*mib)
		track(t, p, id)
		places = append(places, place{dir, id})
	}
	const rounds = 25
	victims := map[int]uint64{}
	for range rounds {
		var hogs []*exec.Cmd
		for _, at := range places {
			cmd := start(t, at.dir, "hog 64")
			victims[cmd.Process.Pid] = at.id
			hogs = append(hogs, cmd)
		}
		for _, cmd := range hogs {
			if status := wait(t, cmd); status.Signal() != unix.SIGKILL {
				t.Fatalf("a hog ended by %v", status)
			}
		}
	}
	for _, at := range places {
		if l, kernel := last(t, p, at.id), kernelKills(t, at.dir); l.OOMKills != rounds || kernel != rounds {
			t.Errorf("%s: %d kills, the kernel counts %d, want %d", at.dir, l.OOMKills, kernel, rounds)
		}
	}
	var late []time.Duration
	for timeout := time.After(10 * time.Second); len(victims) > 0; {
		select {
		case e := <-events:
			if e.Kind != ebpf.OOM || e.OOM.Dying {
				continue
			}
			if victims[e.Task.TGID] != e.Cgroup || e.OOM.LevelCgroup != e.Cgroup {
				t.Errorf("%+v %+v, expected of cgroup %d", e.Record, e.OOM, victims[e.Task.TGID])
			}
			delete(victims, e.Task.TGID)
			late = append(late, e.at-e.Time)
		case <-timeout:
			t.Fatalf("%d kills were not told", len(victims))
		}
	}
	slices.Sort(late)
	t.Logf("%d kills, from the kernel to the reader: median %v, p99 %v", len(late), late[len(late)/2], late[len(late)*99/100])
}

func TestGroupKillHasEveryVictim(t *testing.T) {
	p := open(t)
	dir, id := newCgroup(t, "", "group", 24*mib)
	if err := os.WriteFile(dir+"/memory.oom.group", []byte("1"), 0); err != nil {
		needsUnified(t, err)
	}
	track(t, p, id)
	init := start(t, dir, "parent hog 64")
	setInit(t, p, id, init.Process.Pid)
	if status := wait(t, init); status.Signal() != unix.SIGKILL {
		t.Errorf("PID 1 ended by %v", status)
	}
	emptied(t, dir)
	if l := last(t, p, id); l.InitOOM == nil || !l.InitOOM.OOM.Group || l.OOMKills != 2 {
		t.Errorf("last: %+v", l)
	}
}

// The first of a group give back their memory while the last are still to be marked: the
// group stands below its limit then, and the kill is no less its own.
func TestGroupKillIsOfOneLevelToItsLastVictim(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	dir, id := newCgroup(t, "", "crowd", 160*mib)
	if err := os.WriteFile(dir+"/memory.oom.group", []byte("1"), 0); err != nil {
		needsUnified(t, err)
	}
	track(t, p, id)
	// The kernel marks the greediest first and the others in the order of the cgroup's list.
	var members []*exec.Cmd
	for range 16 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "PLAY=hold 6", "PLAY_CGROUP="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(out, make([]byte, 6))
		members = append(members, cmd)
	}
	members = append(members, start(t, dir, "hog 200"))
	for _, cmd := range members {
		if status := wait(t, cmd); status.Signal() != unix.SIGKILL {
			t.Errorf("%d ended by %v", cmd.Process.Pid, status)
		}
	}
	var first arrival
	for killed := 0; killed < len(members); {
		e := next(t, events, ebpf.OOM, id)
		if e.OOM.Dying {
			continue
		}
		if killed++; killed == 1 {
			first = e
		}
		if s := e.OOM.Scene; s == nil || s.Processes != len(members) || fmt.Sprint(s.Largest) != fmt.Sprint(first.OOM.Scene.Largest) {
			t.Errorf("%d, %v after the first: another scene: %+v", e.Task.TGID, e.Time-first.Time, s)
		}
		if killed == len(members) {
			t.Logf("the last of %d is marked %v after the first", killed, e.Time-first.Time)
		}
		if o := e.OOM; o.Level != ebpf.Container || o.LevelCgroup != id || !o.Group || o.Limit != 160*mib {
			t.Errorf("%d: usage %d: %+v", e.Task.TGID, o.Usage, o)
		}
	}
	// The kernel kills the first victim once more with its group, and counts that.
	if l := last(t, p, id); l.OOMKills != uint64(len(members)) {
		t.Errorf("%d kills are on record, %d processes were there", l.OOMKills, len(members))
	}
}

// emptied waits until a cgroup has no process. One of them asked for the memory, so the
// kill is over then.
func emptied(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		raw, err := os.ReadFile(dir + "/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left in %s: %s", dir, raw)
		}
	}
}
