// Package oom gives the verdict on the end of a container: whether the OOM killer ended
// it, which limit ran out, and on which evidence that rests.
//
// Verdict is pure: it looks nothing up and acts on nothing. It is right or says that it
// does not know; a container is OOMKilled only if its PID 1 was a victim, and an earlier
// kill of another process never colours a later end.
package oom

import (
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// Evidence is what is known about a container.
type Evidence struct {
	// Observed: the OOM program watched the container from before its first instruction
	// to its end, so Last is complete. Otherwise only the counters are believed.
	Observed bool
	Last     ebpf.Last
	// Around: Last is of the pod's cgroup, which was watched in place of the container's while
	// that was being made, and Observed says that this was so throughout.
	Around bool
	// Phase says whether PID 1 has ended, and Signal and ExitCode how.
	Phase    Phase
	Signal   int
	ExitCode int
	// ExitedAt is the boot's clock; zero if not known.
	ExitedAt time.Duration
	// Limit is the container's own memory limit in bytes; 0 is none.
	Limit uint64
	// Pod is the id of the pod's memory cgroup; 0 if not known.
	Pod uint64
	// Counter is what the cgroup itself counted.
	Counter Counter
}

// Phase is how far a container has come.
type Phase int

// The phases. Creating is an end before the user's program began.
const (
	Exited Phase = iota
	Running
	Creating
)

// Counter is the cgroup's number of OOM kills (oom_kill of memory.events or
// memory.oom_control) at the container's start and after its end.
type Counter struct {
	// Known: both numbers were read.
	Known         bool
	Before, After uint64
	// Group: the container's own memory.events.local counted an oom_group_kill, so PID 1
	// was among the victims. (memory.oom.group alone proves nothing: a kill in a cgroup
	// below the container is counted by oom_kill, too.)
	Group bool
	// Peak is the largest number of tasks there ever was (pids.peak); 0 is not known.
	Peak uint64
	// Pod is the same number of the pod, its other containers included. It is asked
	// when the container's own is not Known: systemd removes a scope, and with it the
	// counter, with its last process.
	Pod PodCounter
}

// PodCounter is a pod's number of OOM kills at a container's start and after its end.
type PodCounter struct {
	Known         bool
	Before, After uint64
}

// Level names whose limit ran out.
type Level string

// The levels. LevelBelow is a cgroup made by the container itself, LevelNode one above
// the pod that has a limit, LevelGlobal the machine.
const (
	LevelUnknown   Level = ""
	LevelBelow     Level = "below"
	LevelContainer Level = "container"
	LevelPod       Level = "pod"
	LevelNode      Level = "node"
	LevelGlobal    Level = "global"
)

// Killed is the reason of a container that the OOM killer ended.
const Killed = "OOMKilled"

// Result is the verdict.
type Result struct {
	// Reason is Killed or "".
	Reason string
	// Message is one sentence for a developer; "" if no OOM kill touched the container.
	Message string
	// Sure: Reason and Level are proven. Otherwise Reason is "" for want of proof, or
	// the level is the likely one.
	Sure bool
	// Kills counts the OOM kills in the container.
	Kills uint64

	// What follows is about the kill that ended PID 1 or, if there is none, the last
	// one; it is zero if the kill was not observed. Sizes are bytes.
	Victim       ebpf.Task
	VictimIsInit bool
	Trigger      ebpf.Task
	Level        Level
	Limit, Usage uint64
	Swap         bool
	At           time.Duration
}
