package oom

import (
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/pod"
)

// What the kernel's programs tell, under the names by which rooms that do not know the
// programs use it.
type (
	Record = ebpf.Record
	Last   = ebpf.Last
	Kind   = ebpf.Kind
	Start  = ebpf.Start
)

// The kinds of records.
const (
	KindOOM    = ebpf.OOM
	KindExec   = ebpf.Exec
	KindExit   = ebpf.Exit
	KindSignal = ebpf.Signal
	// KindDenial: the container's ledger of denials has a line more.
	KindDenial = ebpf.Refusal
	// KindProgress: the container has come further in its start.
	KindProgress = ebpf.Progress
)

// Kill turns a record of kind OOM into the kill that a container's record keeps. pod is
// the id of the pod's memory cgroup, 0 if not known; now is the present moment by both
// clocks. It is false for a record of another kind, and for a victim that was dying
// anyway: the OOM killer did not end that.
func Kill(r Record, podCgroup uint64, now time.Time, sinceBoot time.Duration) (pod.OOMKill, bool) {
	if r.Kind != ebpf.OOM || r.OOM == nil || r.OOM.Dying {
		return pod.OOMKill{}, false
	}
	v := Verdict(Evidence{Observed: true, Phase: Running, Pod: podCgroup, Last: Last{OOM: &r, OOMKills: 1}})
	return pod.OOMKill{
		At: now.Add(r.Time - sinceBoot), SinceBoot: r.Time,
		Victim: culprit(r.Task), Init: r.Init, Trigger: culprit(r.OOM.Trigger),
		Level: string(v.Level), Limit: v.Limit, Usage: v.Usage, Swap: v.Swap,
		Anon: r.OOM.Anon, File: r.OOM.File, Shmem: r.OOM.Shmem, Swapped: r.OOM.Swapped,
		ScoreAdj: r.OOM.ScoreAdj, Group: r.OOM.Group, Likely: !v.Sure, Message: v.Message,
		Scene: scene(r.OOM, r.Cgroup, podCgroup),
	}, true
}

func culprit(t ebpf.Task) pod.Culprit {
	return pod.Culprit{PID: t.TGID, ContainerPID: t.ContainerPID, Command: t.Comm, UID: t.UID}
}
