package ebpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kind is what a record is about.
type Kind uint32

// The kinds. Their records' details are in the field of the same name.
const (
	OOM    = Kind(programsKindKIND_OOM)
	Exec   = Kind(programsKindKIND_EXEC)
	Exit   = Kind(programsKindKIND_EXIT)
	Signal = Kind(programsKindKIND_SIGNAL)
	// Refusal says that the cgroup's ledger has a line more, and no details: see Denials.
	Refusal = Kind(programsKindKIND_DENIAL)
	// Progress says that the cgroup's container has come further in its start, and no
	// details: see StartProfile and Watch.Accepted.
	Progress = Kind(programsKindKIND_START)
)

// Level is how the cgroup that ran out of memory lies to the container's.
type Level uint32

// The levels. Global is the whole node: no limit was hit.
const (
	Global    = Level(programsLevelLEVEL_GLOBAL)
	Below     = Level(programsLevelLEVEL_BELOW)
	Container = Level(programsLevelLEVEL_CONTAINER)
	Above     = Level(programsLevelLEVEL_ABOVE)
)

// Task is a thread as it was when something happened to it.
type Task struct {
	PID, TGID int
	// ContainerPID is the process id in its own pid namespace.
	ContainerPID int
	// UID is the host's.
	UID    uint32
	Cgroup uint64
	Comm   string
}

// Record is one fact about a tracked cgroup.
type Record struct {
	Kind Kind
	// Time is the clock of the boot, suspend included.
	Time time.Duration
	// Cgroup is the tracked one. Task.Cgroup may be below it.
	Cgroup uint64
	Task   Task
	// Init: the task is the container's PID 1.
	Init   bool
	OOM    *OOMKill
	Exec   *Execution
	Exit   *Ending
	Signal *Sent
}

// OOMKill is what the OOM killer did and why. Sizes are bytes.
type OOMKill struct {
	Level       Level
	LevelCgroup uint64
	// Limit and Usage are the level's; 0 if Level is Global.
	Limit, Usage uint64
	// Swap: the level ran out of memory plus swap, SwapLimit.
	Swap                       bool
	SwapLimit, SwapUsage       uint64
	Anon, File, Shmem, Swapped uint64
	ScoreAdj                   int
	Trigger                    Task
	// TriggerOutside: the triggering task is not below the level, so the level is a guess.
	TriggerOutside bool
	// Group: the victim's cgroup, or one above it up to the level that ran out, asks for its
	// processes to be killed together.
	Group bool
	// Entered: the victim came from outside, as PID 1 and the processes of exec sessions do,
	// and not by a fork inside. It is not known in a container that shares the host's pid
	// namespace, where it is false.
	Entered bool
	// Dying: the victim was ending already; it was not the OOM killer who ended it.
	Dying bool
	// Kills counts the container's kills so far, this one included.
	Kills uint64
	// Scene is nil if the victim was dying, and where it was lost.
	Scene *Scene
	// taken names the scene.
	taken uint64
}

// Execution is an execve that succeeded.
type Execution struct{ Filename string }

// Ending is the end of a process's last thread.
type Ending struct {
	Status unix.WaitStatus
	Parent Task
}

// Sent is a signal that ends its target.
type Sent struct {
	Number unix.Signal
	// Code is si_code.
	Code int
	// Kernel: sent by the kernel for a fault, an OOM kill or the end of a pid namespace;
	// Sender is then the task that was running.
	Kernel bool
	Sender Task
	// Address is that of the fault, Syscall the one seccomp did not allow.
	Address uint64
	Syscall int
}

// RecordSize is the size of a raw record, as the map last and the ring buffer hold it.
const RecordSize = int(unsafe.Sizeof(programsRecord{}))

// Decode reads a raw record, as a monitor copied it from the map last or as the ring buffer
// tells it: there an OOM kill's scene follows.
func Decode(raw []byte) (Record, error) {
	var r programsRecord
	if len(raw) < RecordSize {
		return Record{}, fmt.Errorf("eBPF record of %d bytes, expected %d", len(raw), RecordSize)
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &r); err != nil {
		return Record{}, fmt.Errorf("eBPF record: %w", err)
	}
	has := func(f programsFlag) bool { return r.Flags&uint32(f) != 0 }
	record := Record{Kind: Kind(r.Kind), Time: time.Duration(r.Time), Cgroup: r.Cgroup,
		Task: task(r.Task), Init: has(programsFlagFLAG_INIT)}
	union := raw[unsafe.Offsetof(r.Oom):]
	switch record.Kind {
	case OOM:
		record.OOM = oomKill(r.Oom, has)
		if told := raw[RecordSize:]; len(told) >= sceneSize {
			record.OOM.see(told)
		}
	case Exec:
		var d programsExec
		binary.Decode(union, binary.NativeEndian, &d)
		record.Exec = &Execution{text(d.Filename[:])}
	case Exit:
		var d programsExit
		binary.Decode(union, binary.NativeEndian, &d)
		record.Exit = &Ending{unix.WaitStatus(d.Status), task(d.Parent)}
	case Signal:
		var d programsSignal
		binary.Decode(union, binary.NativeEndian, &d)
		record.Signal = &Sent{unix.Signal(d.Number), int(d.Code), has(programsFlagFLAG_KERNEL), task(d.Sender), d.Address, int(d.Syscall)}
	case Refusal, Progress:
	default:
		return Record{}, fmt.Errorf("eBPF record of unknown kind %d", r.Kind)
	}
	return record, nil
}

func oomKill(d programsOom, has func(programsFlag) bool) *OOMKill {
	page := uint64(os.Getpagesize())
	return &OOMKill{
		Level: Level(d.Level), LevelCgroup: d.LevelCgroup, Limit: d.Limit * page, Usage: d.Usage * page,
		Swap: has(programsFlagFLAG_SWAP), SwapLimit: d.SwapLimit * page, SwapUsage: d.SwapUsage * page,
		Anon: d.Anon * page, File: d.File * page, Shmem: d.Shmem * page, Swapped: d.Swapped * page,
		ScoreAdj: int(d.ScoreAdj), Trigger: task(d.Trigger), TriggerOutside: has(programsFlagFLAG_OUTSIDE),
		Group: has(programsFlagFLAG_GROUP), Entered: has(programsFlagFLAG_ENTERED), Dying: has(programsFlagFLAG_DYING), Kills: d.Kills, taken: d.Taken,
	}
}

func task(t programsTask) Task {
	return Task{int(t.Pid), int(t.Tgid), int(t.NsTgid), t.Uid, t.Cgroup, text(t.Comm[:])}
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
