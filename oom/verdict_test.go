package oom_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom"
)

const (
	mib    = 1 << 20
	self   = 23
	podID  = 22
	second = time.Second
)

func initTask() ebpf.Task {
	return ebpf.Task{PID: 100, TGID: 100, ContainerPID: 1, Cgroup: self, Comm: "server"}
}

func child() ebpf.Task {
	return ebpf.Task{PID: 107, TGID: 107, ContainerPID: 8, Cgroup: self, Comm: "worker"}
}

func kill(victim ebpf.Task, change ...func(*ebpf.OOMKill)) *ebpf.Record {
	k := &ebpf.OOMKill{Level: ebpf.Container, LevelCgroup: self, Limit: 20 * mib, Usage: 20 * mib, Anon: 19 * mib, Trigger: victim, Kills: 1}
	for _, c := range change {
		c(k)
	}
	return &ebpf.Record{Kind: ebpf.OOM, Time: 10 * second, Cgroup: self, Task: victim, Init: victim.ContainerPID == 1, OOM: k}
}

func atPod(k *ebpf.OOMKill) {
	k.Level, k.LevelCgroup, k.Limit = ebpf.Above, podID, 64*mib
	k.Trigger = ebpf.Task{PID: 200, TGID: 200, Cgroup: 24, Comm: "sibling"}
}

func ofInit(r *ebpf.Record) ebpf.Last {
	return ebpf.Last{OOM: r, InitOOM: r, OOMKills: r.OOM.Kills}
}

func ofChild(r *ebpf.Record) ebpf.Last { return ebpf.Last{OOM: r, OOMKills: r.OOM.Kills} }

// The cases 1 to 12 of the matrix, each with what the kernel tells and again with the
// counters alone: there the answer must be the same or unknown.
func TestMatrix(t *testing.T) {
	end := func(last ebpf.Last, signal, code int) oom.Evidence {
		return oom.Evidence{Observed: true, Last: last, Signal: signal, ExitCode: code, ExitedAt: 10*second + 12*time.Millisecond, Limit: 20 * mib, Pod: podID,
			Counter: oom.Counter{Known: true, Before: 5, After: 5 + last.OOMKills}}
	}
	group := func(k *ebpf.OOMKill) { k.Group, k.Kills = true, 3 }
	swap := func(k *ebpf.OOMKill) { k.Swap, k.SwapLimit, k.SwapUsage = true, 30*mib, 30*mib }
	global := func(k *ebpf.OOMKill) { k.Level, k.LevelCgroup, k.Limit, k.Usage = ebpf.Global, 0, 0, 0 }
	entered := func(k *ebpf.OOMKill) { k.Entered = true }
	late := end(ofChild(kill(child())), 0, 137)
	late.ExitedAt += 2 * second
	running := end(ofChild(kill(child())), 0, 0)
	running.Phase = oom.Running
	creating := end(ofInit(kill(initTask())), 9, 137)
	creating.Phase = oom.Creating
	grouped := ebpf.Last{OOM: kill(child(), group), InitOOM: kill(initTask(), group), OOMKills: 3}
	for _, c := range []struct {
		name     string
		evidence oom.Evidence
		reason   string
		level    oom.Level
		init     bool
		says     string
	}{
		{"1 PID 1 exceeds its limit", end(ofInit(kill(initTask())), 9, 137), oom.Killed, oom.LevelContainer, true, "the container's limit of 20Mi for memory was reached"},
		{"2 child killed, later exit 0", end(ofChild(kill(child())), 0, 0), "", oom.LevelContainer, false, `"worker" (pid 8) was OOM-killed`},
		{"3 child killed, later SIGTERM", end(ofChild(kill(child())), 0, 143), "", oom.LevelContainer, false, "exited with 143"},
		{"4 child killed, PID 1 gives up", end(ofChild(kill(child())), 0, 1), "", oom.LevelContainer, false, "12ms before PID 1 exited with 1"},
		{"4 child killed, the shell exits with its status", end(ofChild(kill(child())), 0, 137), oom.Killed, oom.LevelContainer, false, "before PID 1 exited with 137, as a shell does"},
		{"4 the same, long after", late, "", oom.LevelContainer, false, "before PID 1 exited with 137"},
		{"4 the same, after a kill in an exec session", end(ofChild(kill(child(), entered)), 0, 137), "", oom.LevelContainer, false, "before PID 1 exited with 137"},
		{"5 exec'd process killed", running, "", oom.LevelContainer, false, `"worker"`},
		{"6 group kill", end(grouped, 9, 137), oom.Killed, oom.LevelContainer, true, "killed together"},
		{"7 pod's limit, by a sibling", end(ofInit(kill(initTask(), atPod)), 9, 137), oom.Killed, oom.LevelPod, true, `the pod's limit of 64Mi for memory was reached; "sibling" (pid 200) asked`},
		{"8 the node", end(ofInit(kill(initTask(), global)), 9, 137), oom.Killed, oom.LevelGlobal, true, "the node ran out of memory"},
		{"9 kill -9 after a child's kill", end(ofChild(kill(child())), 9, 137), "", oom.LevelContainer, false, "before PID 1 was ended by SIGKILL"},
		{"10 right after the start", end(ofInit(kill(initTask())), 9, 137), oom.Killed, oom.LevelContainer, true, ""},
		{"11 swap", end(ofInit(kill(initTask(), swap)), 9, 137), oom.Killed, oom.LevelContainer, true, "limit of 30Mi for memory and swap"},
		{"12 limit too small to start", creating, "", oom.LevelContainer, true, "the memory limit of 20Mi is too small to start a container"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := oom.Verdict(c.evidence)
			if v.Reason != c.reason || v.Level != c.level || v.VictimIsInit != c.init || !v.Sure || v.Kills == 0 || !strings.Contains(v.Message, c.says) {
				t.Errorf("%+v", v)
			}
			if strings.ContainsAny(v.Message, "\n") || v.Message == "" {
				t.Errorf("not a sentence: %q", v.Message)
			}
			t.Log(v.Message)
			blind := c.evidence
			blind.Observed, blind.Last = false, ebpf.Last{}
			for _, known := range []bool{true, false} {
				blind.Counter.Known = known
				if v := oom.Verdict(blind); v.Reason != "" && v.Reason != c.reason || v.Sure && v.Reason != c.reason {
					t.Errorf("by the counter (known %v): %+v", known, v)
				}
			}
		})
	}
}

func TestCounterAloneGivesTheAnswerOrSaysThatItIsNotSure(t *testing.T) {
	counted := func(n uint64) oom.Counter { return oom.Counter{Known: true, Before: 5, After: 5 + n} }
	group, single := counted(2), counted(1)
	group.Group, single.Peak = true, 1
	for _, c := range []struct {
		name     string
		evidence oom.Evidence
		reason   string
		sure     bool
	}{
		{"killed, nothing counted", oom.Evidence{Signal: 9, Counter: counted(0)}, "", true},
		{"killed, one counted", oom.Evidence{Signal: 9, Counter: counted(1)}, "", false},
		{"killed, and all die together", oom.Evidence{Signal: 9, Counter: group}, oom.Killed, true},
		{"killed, and there was one task", oom.Evidence{Signal: 9, Counter: single}, oom.Killed, true},
		{"ended otherwise", oom.Evidence{Signal: 15, Counter: counted(1)}, "", true},
		{"exit 137 may be a shell's word for it", oom.Evidence{ExitCode: 137, Counter: counted(1)}, "", false},
		{"exit 137, nothing counted", oom.Evidence{ExitCode: 137, Counter: counted(0)}, "", true},
		{"exit 137, cgroup gone", oom.Evidence{ExitCode: 137}, "", false},
		{"cgroup gone", oom.Evidence{Signal: 9}, "", false},
		{"counter of another cgroup", oom.Evidence{Signal: 9, Counter: oom.Counter{Known: true, Before: 5, After: 1}}, "", false},
		{"record lost", oom.Evidence{Observed: true, Signal: 9, Counter: counted(1)}, "", false},
		{"nothing at all", oom.Evidence{Observed: true, Signal: 9, Counter: counted(0)}, "", true},
	} {
		if v := oom.Verdict(c.evidence); v.Reason != c.reason || v.Sure != c.sure || (v.Message != "") != (v.Kills > 0 || !v.Sure) {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// A container whose cgroup was gone before anybody knew it: the pod was watched meanwhile.
func TestKillDuringTheMakingIsSeenFromThePod(t *testing.T) {
	first := ebpf.Task{PID: 100, TGID: 100, ContainerPID: 1, Cgroup: 99, Comm: "runc:[2:INIT]"}
	record := func(level ebpf.Level, cgroup, limit uint64) ebpf.Last {
		r := kill(first, func(k *ebpf.OOMKill) { k.Level, k.LevelCgroup, k.Limit = level, cgroup, limit })
		r.Cgroup = podID
		return ofChild(r)
	}
	for _, c := range []struct {
		name  string
		last  ebpf.Last
		limit uint64
		level oom.Level
		says  string
	}{
		{"the container's", record(ebpf.Below, 99, 12*mib), 12*mib + 100, oom.LevelContainer, "the memory limit of 12.0Mi is too small to start a container"},
		{"one of another below the pod", record(ebpf.Below, 98, 64*mib), 12 * mib, "", ""},
		{"of one below the pod, and the container has none", record(ebpf.Below, 98, 64*mib), 0, "", ""},
		{"the pod's", record(ebpf.Container, podID, 30*mib), 12 * mib, oom.LevelPod, "before the container could start: the pod's limit of 30Mi"},
		{"one above the pod", record(ebpf.Above, 7, 30*mib), 12 * mib, oom.LevelNode, "before the container could start: the node's limit of 30Mi"},
		{"the node", record(ebpf.Global, 0, 0), 12 * mib, oom.LevelGlobal, "the node ran out of memory"},
		{"none", ebpf.Last{}, 12 * mib, "", ""},
	} {
		v := oom.Verdict(oom.Evidence{Phase: oom.Creating, Observed: true, Around: true, Last: c.last, Limit: c.limit, Pod: podID})
		if v.Level != c.level || !strings.Contains(v.Message, c.says) || (v.Message == "") != (c.says == "") || v.Reason != "" {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
	counted := oom.Counter{Pod: oom.PodCounter{Known: true, Before: 2, After: 3}}
	if v := oom.Verdict(oom.Evidence{Phase: oom.Creating, Counter: counted, Limit: 12 * mib}); v.Sure || v.Reason != "" ||
		!strings.Contains(v.Message, "is not known (the container's memory limit is 12Mi)") {
		t.Errorf("by the pod's counter: %+v", v)
	}
}

func TestThePodsCounterStandsInForOneThatIsGone(t *testing.T) {
	counted := func(n uint64) oom.Counter {
		return oom.Counter{Pod: oom.PodCounter{Known: true, Before: 5, After: 5 + n}}
	}
	own := counted(1)
	own.Known = true
	for _, c := range []struct {
		name     string
		evidence oom.Evidence
		sure     bool
		says     string
	}{
		{"killed, none in the pod", oom.Evidence{Signal: 9, Counter: counted(0)}, true, ""},
		{"killed, one in the pod", oom.Evidence{Signal: 9, Counter: counted(1)}, false, "a process was OOM-killed in the pod while the container ran, and PID 1 was ended by SIGKILL; whether by the OOM killer is not known"},
		{"ended, two in the pod", oom.Evidence{Counter: counted(2)}, true, "2 processes were OOM-killed in the pod while the container ran, not its PID 1"},
		{"ended by another signal", oom.Evidence{Signal: 15, Counter: counted(1)}, true, "not its PID 1"},
		{"the container's own says none", oom.Evidence{Counter: own}, true, ""},
		{"counter of another pod", oom.Evidence{Signal: 9, Counter: oom.Counter{Pod: oom.PodCounter{Known: true, Before: 5}}}, false, "could not be read"},
		{"it still runs", oom.Evidence{Phase: oom.Running, Counter: counted(1)}, false, ""},
	} {
		if v := oom.Verdict(c.evidence); v.Reason != "" || v.Sure != c.sure || !strings.Contains(v.Message, c.says) || c.says == "" && v.Message != "" {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestDoubtIsSaid(t *testing.T) {
	outside := kill(initTask(), atPod, func(k *ebpf.OOMKill) { k.TriggerOutside = true })
	v := oom.Verdict(oom.Evidence{Observed: true, Last: ofInit(outside), Signal: 9, Pod: podID})
	if v.Reason != oom.Killed || v.Sure || !strings.Contains(v.Message, "probably") {
		t.Errorf("%+v", v)
	}
	dying := kill(initTask(), func(k *ebpf.OOMKill) { k.Dying = true })
	if v := oom.Verdict(oom.Evidence{Observed: true, Last: ofInit(dying), Signal: 9}); v.Reason != "" {
		t.Errorf("a victim that was dying: %+v", v)
	}
	small := kill(initTask(), func(k *ebpf.OOMKill) { k.Anon = 0 })
	if v := oom.Verdict(oom.Evidence{Observed: true, Last: ofInit(small), Signal: 9}); !strings.Contains(v.Message, "held hardly any anonymous memory") {
		t.Errorf("a victim whose counters are not added up yet: %+v", v)
	}
}

// A scene of three processes at the container's limit; the kernel's figures add up.
func withScene(k *ebpf.OOMKill) {
	k.Scene = &ebpf.Scene{
		Processes: 3,
		Largest: []ebpf.Process{
			{TGID: 107, ContainerPID: 8, Cgroup: self, Comm: "worker", Anon: 14 * mib, File: mib},
			{TGID: 200, ContainerPID: 1, Cgroup: 24, Comm: "sibling", Anon: 2 * mib},
			{TGID: 100, ContainerPID: 1, Cgroup: self, Comm: "server", Anon: mib / 2, Swapped: mib / 2},
		},
		Levels: []ebpf.LevelUse{{Cgroup: 25, Usage: mib}, {Cgroup: self, Usage: 20 * mib, Limit: 20 * mib}, {Cgroup: podID, Usage: 30 * mib}, {Cgroup: 21, Usage: 90 * mib, Limit: 900 * mib}},
		Stats:  &ebpf.Stats{Anon: 16 * mib, File: mib, Shmem: 2 * mib, Kernel: mib, Slab: mib / 2, Usage: 20 * mib},
	}
}

func TestSceneIsToldAndKept(t *testing.T) {
	const split = "; the 20Mi in use were 16Mi anonymous, 2Mi shared or in a tmpfs, 1Mi of files, 1Mi the kernel's"
	ofContainer := `; of the container's 3 processes the largest held 15Mi ("worker", pid 8), 2Mi ("sibling", pid 1), 1Mi ("server", pid 1)` + split
	for _, c := range []struct {
		name   string
		kill   *ebpf.Record
		says   string
		secret string
	}{
		{"container", kill(child(), withScene), ofContainer, ""},
		{"cut", kill(child(), withScene, func(k *ebpf.OOMKill) { k.Scene.Cut, k.Scene.Looked = true, 4096 }), "processes the largest held, as far as was looked, 15Mi", ""},
		{"pod", kill(child(), withScene, func(k *ebpf.OOMKill) { k.Level, k.LevelCgroup = ebpf.Above, podID }), `of the pod's 3 processes the largest held 15Mi ("worker", pid 107)`, ""},
		{"another pod's names are not told", kill(child(), withScene, func(k *ebpf.OOMKill) { k.Level, k.LevelCgroup = ebpf.Above, 21 }), "", "sibling"},
		{"nor when the node runs out", kill(child(), withScene, func(k *ebpf.OOMKill) { k.Level = ebpf.Global }), "", "sibling"},
		{"figures that do not add up", kill(child(), withScene, func(k *ebpf.OOMKill) { k.Scene.Stats.Anon = 9 * mib }), "", "in use were"},
		{"one process", kill(child(), withScene, func(k *ebpf.OOMKill) { k.Scene.Largest = k.Scene.Largest[:1] }), split, "processes the largest"},
		{"not known", kill(child()), "", "held"},
	} {
		v := oom.Verdict(oom.Evidence{Observed: true, Phase: oom.Running, Pod: podID, Last: ofChild(c.kill)})
		if !strings.Contains(v.Message, c.says) || c.secret != "" && strings.Contains(v.Message, c.secret) {
			t.Errorf("%s: %s", c.name, v.Message)
		}
	}
	k, _ := oom.Kill(*kill(child(), withScene), podID, time.Unix(5000, 0), 10*second)
	if k.Scene == nil || k.Scene.Processes != 3 || k.Scene.LookedAt != 0 || len(k.Scene.Largest) != 3 || k.Scene.Largest[0].Held() != 15*mib || k.Scene.Largest[0].PID != 107 {
		t.Fatalf("kept: %+v", k.Scene)
	}
	if s := k.Scene.Split; s == nil || s.Anon != 16*mib || s.Slab != mib/2 {
		t.Errorf("split %+v", s)
	}
	var levels []string
	for _, l := range k.Scene.Levels {
		levels = append(levels, l.Level)
	}
	if got := strings.Join(levels, " "); got != "below container pod node" {
		t.Errorf("levels: %s", got)
	}
	k, _ = oom.Kill(*kill(child(), withScene), 0, time.Unix(5000, 0), 10*second)
	if l := k.Scene.Levels; l[1].Level != "container" || l[2].Level != "" || l[3].Level != "" {
		t.Errorf("with a pod that is not known: %+v", l)
	}
	if k, _ := oom.Kill(*kill(child()), podID, time.Unix(5000, 0), 0); k.Scene != nil {
		t.Errorf("a scene from nowhere: %+v", k.Scene)
	}
}
