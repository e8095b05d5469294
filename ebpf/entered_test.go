package ebpf_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// A victim that came into the container from outside is told from those that were forked
// there, an orphan among them, by the kernel's own links between processes.
func TestVictimThatCameFromOutsideIsToldAsThat(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, id := newCgroup(t, "", "entered", 48*mib)
	track(t, p, id)
	playing := func(part string) []string {
		return append(os.Environ(), "PLAY="+part, "PLAY_CGROUP="+dir, "GOTRACEBACK=none")
	}
	init := exec.Command(self)
	init.Env, init.Stderr = playing("sleep"), os.Stderr
	init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		init.Process.Kill()
		init.Wait()
	})
	setInit(t, p, id, init.Process.Pid)
	for _, test := range []struct {
		name, part string
		want       bool
	}{
		{"the session's process", "hog 96", true},
		{"its child", "parent hog 96", false},
		{"its orphan", "orphan hog 96", false},
	} {
		session := exec.Command("nsenter", "--target", fmt.Sprint(init.Process.Pid), "--pid", self)
		session.Env = playing(test.part)
		out, _ := session.CombinedOutput() // its status is that of who was killed, or not
		e := next(t, events, ebpf.OOM, id)
		for e.OOM.Dying {
			e = next(t, events, ebpf.OOM, id)
		}
		if e.OOM.Entered != test.want || e.Init || e.Task.ContainerPID < 2 {
			t.Errorf("%s: %+v entered %v: %s", test.name, e.Task, e.OOM.Entered, out)
		}
	}
	// In the namespace of its starter it cannot be told, and is not.
	here := start(t, dir, "hog 96")
	wait(t, here)
	if e := next(t, events, ebpf.OOM, id); e.OOM.Entered || e.Task.TGID != here.Process.Pid {
		t.Errorf("without a namespace of its own: %+v", e.Record)
	}
}

// With a limit above it that ran out, the victim's own cgroup may still ask to be killed as one:
// kubelet asks that of every container.
func TestGroupKillBelowTheLevelThatRanOutIsOne(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	pod, podID := newCgroup(t, "", "onepod", 96*mib)
	dir, id := newCgroup(t, pod, "one", 0)
	beside, besideID := newCgroup(t, pod, "sibling", 0)
	if err := os.WriteFile(dir+"/memory.oom.group", []byte("1"), 0); err != nil {
		needsUnified(t, err)
	}
	track(t, p, id)
	track(t, p, besideID)
	greedy, in := ready(t, beside, "brim 24")
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", greedy.Process.Pid), []byte("-900"), 0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ready(t, dir, "hold 4")
	}
	largest, _ := ready(t, dir, "hold 30")
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var first *ebpf.OOMKill
	for killed := 0; killed < 4; {
		e := next(t, events, ebpf.OOM, id)
		if e.OOM.Dying {
			continue
		}
		killed++
		o := e.OOM
		if !o.Group || o.Level != ebpf.Above || o.LevelCgroup != podID || o.Trigger.TGID != greedy.Process.Pid || o.Scene == nil {
			t.Errorf("%d: %+v", e.Task.TGID, o)
			continue
		}
		if first == nil {
			first = o
			if e.Task.TGID != largest.Process.Pid {
				t.Errorf("the first victim is %+v, not the largest", e.Task)
			}
		}
		if o.Scene.Processes != 5 || fmt.Sprint(o.Scene.Largest) != fmt.Sprint(first.Scene.Largest) {
			t.Errorf("%d: another scene: %+v", e.Task.TGID, *o.Scene)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(beside, "cgroup.procs")); err != nil || !strings.Contains(string(raw), fmt.Sprint(greedy.Process.Pid)) {
		t.Logf("who asked for the memory has ended, too: %q, %v", raw, err) // brim is at its end
	}
}
