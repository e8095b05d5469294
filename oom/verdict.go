package oom

import (
	"fmt"
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

const sigKill = 9

// Verdict judges the evidence.
func Verdict(e Evidence) Result {
	if !e.Observed {
		return byCounter(e)
	}
	kill := e.Last.InitOOM
	if kill == nil {
		kill = e.Last.OOM
	}
	if kill == nil || kill.OOM == nil {
		return unseen(e)
	}
	r := Result{
		Kills: e.Last.OOMKills, Victim: kill.Task, VictimIsInit: kill.Init, Trigger: kill.OOM.Trigger,
		Level: level(kill.OOM, e), Limit: kill.OOM.Limit, Usage: kill.OOM.Usage, Swap: kill.OOM.Swap,
		At: kill.Time, Sure: !kill.OOM.TriggerOutside,
	}
	if r.Swap {
		r.Limit, r.Usage = kill.OOM.SwapLimit, kill.OOM.SwapUsage
	}
	switch {
	case e.Phase == Creating && e.Around && r.Level == LevelContainer && !sameLimit(kill.OOM.Limit, e.Limit):
		return Result{Sure: true} // that of another cgroup in the pod, which nobody watched
	case e.Phase == Creating:
		r.Message = tooSmall(e, r)
	case kill.Init && !kill.OOM.Dying && e.Phase == Exited && e.Signal == sigKill:
		r.Reason = Killed
		r.Message = killedMessage(r, kill) + told(r, kill.OOM)
	case e.Phase == Exited && e.Signal == sigKill && followsOOM(kill, e.Last):
		r.Reason = Killed
		r.Message = killedMessage(r, kill) + ", which it shared with PID 1" + told(r, kill.OOM)
	case e.Phase == Exited && e.Signal == sigKill && beyond(e) && !sentByTask(e.Last):
		// A kill that left no record came after the last one that did.
		return byCounter(e)
	case passedOn(e, kill):
		r.Reason = Killed
		r.Message = childMessage(e, r) + ", as a shell does whose command was killed" + told(r, kill.OOM)
	default:
		r.Message = childMessage(e, r) + told(r, kill.OOM)
	}
	return r
}

// exitKilled is the status with which a shell tells that SIGKILL ended its command.
const exitKilled = 128 + sigKill

// exitedKilled says that PID 1 ended by itself, with the status of a command that was killed.
func exitedKilled(e Evidence) bool {
	return e.Phase == Exited && e.Signal == 0 && e.ExitCode == exitKilled
}

// passedOn says that PID 1 ended because the victim had: with a killed command's status, at
// once, and the victim was none of an exec session, whose end PID 1 does not learn.
func passedOn(e Evidence, kill *ebpf.Record) bool {
	return exitedKilled(e) && !kill.OOM.Entered && !kill.OOM.Dying && e.ExitedAt >= kill.Time && e.ExitedAt-kill.Time < passedOnWithin
}

// passedOnWithin is how long a shell may take to learn of its command's end and to end on
// its part, on a node that has just run out of memory.
const passedOnWithin = 2 * time.Second

// unseen is for a container in which no kill was recorded. The counter may know of one
// nonetheless: records are lost when their map is full.
func unseen(e Evidence) Result {
	if (e.Counter.Known && e.Counter.After > e.Counter.Before || e.Last.OOMKills > 0) && !sentByTask(e.Last) {
		return byCounter(e)
	}
	return Result{Sure: true}
}

// byCounter judges by the number of kills alone, which does not say who was killed.
func byCounter(e Evidence) Result {
	c := e.Counter
	if p := c.Pod; !c.Known && p.Known && p.After >= p.Before && e.Phase != Running {
		return byPodCounter(e, p.After-p.Before)
	}
	if !c.Known || c.After < c.Before {
		r := Result{Sure: e.Phase == Exited && e.Signal != sigKill && !exitedKilled(e)}
		if exitedKilled(e) {
			r.Message = "exited with 137, as a shell does whose command was killed; whether by the OOM killer is not known: its cgroup's counter could not be read"
		}
		if e.Phase == Exited && e.Signal == sigKill && !sentByTask(e.Last) {
			r.Message = "ended by SIGKILL; who sent it was not observed, and whether it was the OOM killer is not known: its cgroup's counter could not be read"
		}
		return r
	}
	r := Result{Kills: c.After - c.Before}
	switch {
	case r.Kills == 0:
		r.Sure = true
	case e.Phase == Creating:
		r.Message = tooSmall(e, r)
	case exitedKilled(e):
		r.Message = fmt.Sprintf("%s in the container, and PID 1 exited with 137, as a shell does whose command was killed; whether by the OOM killer is not known", kills(r.Kills))
	case e.Phase == Running || e.Signal != sigKill:
		// PID 1 lives, or ended otherwise.
		r.Sure = true
		r.Message = fmt.Sprintf("%s in the container, not PID 1", kills(r.Kills))
	case c.Group || c.Peak == 1:
		r.Reason, r.Sure, r.VictimIsInit = Killed, true, true
		r.Message = "the container was killed because memory ran out; which limit, and which processes held it, was not observed"
		if e.Limit != 0 {
			r.Message += fmt.Sprintf(" (its own is %s)", size(e.Limit))
		}
	default:
		r.Message = fmt.Sprintf("%s in the container, and PID 1 was ended by SIGKILL; whether by the OOM killer is not known", kills(r.Kills))
	}
	return r
}

// byPodCounter judges by the number of kills in the pod meanwhile. None is none in the
// container; of others it is only known that they were not PID 1 if that ended otherwise.
func byPodCounter(e Evidence, n uint64) Result {
	if n == 0 {
		return Result{Sure: true}
	}
	if e.Phase == Creating {
		r := Result{Message: kills(n) + " in the pod meanwhile; whether that was the runtime's own first process is not known"}
		if e.Limit != 0 {
			r.Message += fmt.Sprintf(" (the container's memory limit is %s)", size(e.Limit))
		}
		return r
	}
	told := kills(n) + " in the pod while the container ran"
	if e.Signal == sigKill && !sentByTask(e.Last) {
		return Result{Message: told + ", and PID 1 was ended by SIGKILL; whether by the OOM killer is not known"}
	}
	if exitedKilled(e) {
		return Result{Message: told + ", and PID 1 exited with 137, as a shell does whose command was killed; whether by the OOM killer is not known"}
	}
	return Result{Sure: true, Message: told + ", not its PID 1"}
}

// sameLimit compares what the kernel has with what it was told: it rounds down to pages, which
// are of 64 KiB at most.
func sameLimit(kernel, told uint64) bool { return kernel>>16 == told>>16 }

// beyond says that the cgroup counted kills of which no record was made.
func beyond(e Evidence) bool {
	c := e.Counter
	return c.Known && c.After > c.Before && c.After-c.Before > e.Last.OOMKills
}

// sentByTask says that a process sent PID 1 its SIGKILL, so that the OOM killer did not.
func sentByTask(l Last) bool {
	s := l.InitSignal
	return s != nil && s.Signal != nil && !s.Signal.Kernel && int(s.Signal.Number) == sigKill
}

func level(k *ebpf.OOMKill, e Evidence) Level {
	switch {
	case e.Around && k.Level == ebpf.Below:
		return LevelContainer
	case e.Around && k.Level == ebpf.Container:
		return LevelPod
	case k.Level == ebpf.Below:
		return LevelBelow
	case k.Level == ebpf.Container:
		return LevelContainer
	case k.Level == ebpf.Global:
		return LevelGlobal
	case e.Pod == 0:
		return LevelUnknown
	case k.LevelCgroup == e.Pod:
		return LevelPod
	}
	return LevelNode
}

func killedMessage(r Result, kill *ebpf.Record) string {
	s := fmt.Sprintf("the container was killed because %s", ranOut(r))
	if swapUsedUp(kill.OOM) {
		s += fmt.Sprintf(" with its swap, of which it may have %s, used up", size(kill.OOM.SwapLimit))
	}
	if kill.OOM.Group {
		s += ", and its cgroup's processes are killed together"
	}
	if r.Trigger.TGID != r.Victim.TGID && r.Trigger.Comm != "" {
		s += fmt.Sprintf("; %q (pid %d) asked for more", r.Trigger.Comm, r.Trigger.TGID)
	}
	// Since Linux 6.2 a process's counters are kept per CPU and added up in batches
	// (include/linux/mm_types.h, rss_stat): what a small one holds is not in the sum yet.
	anon := "hardly any"
	if kill.OOM.Anon > 0 {
		anon = size(kill.OOM.Anon) + " of"
	}
	s += fmt.Sprintf("; its process %q held %s anonymous memory", r.Victim.Comm, anon)
	if kill.OOM.File > 0 {
		s += fmt.Sprintf(", %s of files", size(kill.OOM.File))
	}
	if kill.OOM.Shmem > 0 {
		s += fmt.Sprintf(", %s of shared memory", size(kill.OOM.Shmem))
	}
	if kill.OOM.Swapped > 0 {
		s += fmt.Sprintf(", %s in swap", size(kill.OOM.Swapped))
	}
	return s
}

// swapUsedUp says that memory ran out when there was no more swap, either. That of cgroup
// v2 is counted apart from memory; v1 counts both together, and where no swap is granted
// that limit is reached with the other one and nothing of the victim is in swap.
func swapUsedUp(k *ebpf.OOMKill) bool {
	return !k.Swap && k.Swapped > 0 && k.SwapLimit > 0 && k.SwapLimit < noLimit && k.SwapUsage+swapBatch >= k.SwapLimit
}

const (
	// noLimit is beyond what a counter can hold (PAGE_COUNTER_MAX, include/linux/page_counter.h).
	noLimit = 1 << 62
	// swapBatch is how much swap a cgroup may be refused at once: a huge page's.
	swapBatch = 2 << 20
)

func childMessage(e Evidence, r Result) string {
	who := fmt.Sprintf("its process %q (pid %d)", r.Victim.Comm, r.Victim.ContainerPID)
	s := fmt.Sprintf("%s was OOM-killed because %s", who, ranOut(r))
	if r.Kills > 1 {
		s = fmt.Sprintf("%s in the container; last, %s", kills(r.Kills), s)
	}
	if e.Phase == Running || e.ExitedAt < r.At || e.ExitedAt == 0 {
		return s
	}
	end := fmt.Sprintf("exited with %d", e.ExitCode)
	if e.Signal != 0 {
		end = "was ended by " + signalName(e.Signal)
	}
	return fmt.Sprintf("%s, %v before PID 1 %s", s, round(e.ExitedAt-r.At), end)
}

func tooSmall(e Evidence, r Result) string {
	if e.Limit != 0 && (r.Level == LevelContainer || r.Level == LevelUnknown) {
		return fmt.Sprintf("the memory limit of %s is too small to start a container: the runtime's own first process was OOM-killed", size(e.Limit))
	}
	return "the runtime's own first process was OOM-killed before the container could start: " + ranOut(r)
}

func ranOut(r Result) string {
	what := "memory"
	if r.Swap {
		what = "memory and swap"
	}
	likely := ""
	if !r.Sure {
		likely = "probably "
	}
	switch r.Level {
	case LevelGlobal:
		return likely + "the node ran out of memory, at no limit of its own"
	case LevelBelow:
		return fmt.Sprintf("%sa limit of %s set inside the container for %s was reached", likely, size(r.Limit), what)
	case LevelUnknown:
		if r.Limit == 0 {
			return "memory ran out"
		}
		return fmt.Sprintf("%sa limit of %s for %s above the container was reached", likely, size(r.Limit), what)
	}
	return fmt.Sprintf("%sthe %s's limit of %s for %s was reached", likely, r.Level, size(r.Limit), what)
}

func kills(n uint64) string {
	if n == 1 {
		return "a process was OOM-killed"
	}
	return fmt.Sprintf("%d processes were OOM-killed", n)
}

func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Millisecond:
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Microsecond)
}

// size is in the units in which limits are written in Kubernetes.
func size(n uint64) string {
	for _, u := range []struct {
		unit uint64
		name string
	}{{1 << 30, "Gi"}, {1 << 20, "Mi"}, {1 << 10, "Ki"}} {
		if n >= u.unit {
			if n%u.unit == 0 {
				return fmt.Sprintf("%d%s", n/u.unit, u.name)
			}
			return fmt.Sprintf("%.1f%s", float64(n)/float64(u.unit), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
