package pod

import "time"

// Evidence is what is known about the end of a container and the kills before it,
// besides the exit status. It begins with the container's record and outlives daemons.
type Evidence struct {
	// Cgroup is the kernel's id of the container's memory cgroup; 0 is not known.
	Cgroup uint64 `json:"cgroup,omitempty"`
	// Watched: the kernel's programs knew the cgroup before the first instruction of
	// the user's program.
	Watched bool `json:"watched,omitempty"`
	// CountedBefore is the cgroup's own number of OOM kills before the start; Counted
	// says that it was read.
	CountedBefore uint64 `json:"countedBefore,omitempty"`
	Counted       bool   `json:"counted,omitempty"`
	// PodCountedBefore is the pod's at the same time, PodCounted that it was read: only
	// where the kernel's programs do not watch and the cgroup goes with its last process.
	PodCountedBefore uint64 `json:"podCountedBefore,omitempty"`
	PodCounted       bool   `json:"podCounted,omitempty"`
	// OOMKills counts the processes of the container that the OOM killer ended; Kills
	// are the last MaxKills of them, oldest first.
	OOMKills uint64    `json:"oomKills,omitempty"`
	Kills    []OOMKill `json:"kills,omitempty"`
	// Denials are the first MaxDenials different things that the container was refused,
	// oldest first. Their counts are of the moment when a new one came, and of the end
	// once it has ended. DenialsLost counts the lines that found no place.
	Denials     []Denial `json:"denials,omitempty"`
	DenialsLost uint64   `json:"denialsLost,omitempty"`
	// Syscalls are those that were counted up to the end, if anybody asked for it. Flight
	// is what the container called last, if it asked for that and ended with an error.
	Syscalls *Syscalls `json:"syscalls,omitempty"`
	Flight   *Flight   `json:"flight,omitempty"`
	// LogStalls is how often the file system of the log did not answer, as far as that was
	// told, LogStalled for how long together, when it was over.
	LogStalls  uint64        `json:"logStalls,omitempty"`
	LogStalled time.Duration `json:"logStalled,omitempty"`
	// Start is how far the start has come as the kernel saw it; nil before the program was
	// executed, and where it was not observed.
	Start *Start `json:"start,omitempty"`
	// Stop is the request that the container end, nil if there was none.
	Stop *Stop `json:"stop,omitempty"`
}

// LogStall is one time that the file system of a container's log did not answer.
type LogStall struct {
	// Since is when that was noticed, zero when it was over before anybody was told.
	Since time.Time `json:"since,omitzero"`
	// Path is the log's.
	Path string `json:"path"`
	// Before is how often it has happened to the container before.
	Before uint64 `json:"before,omitempty"`
}

// MaxKills bounds the kills that a record keeps.
const MaxKills = 8

// OOMKill is one process that the OOM killer ended. Sizes are bytes.
type OOMKill struct {
	At time.Time `json:"at"`
	// SinceBoot is At by the kernel's clock; with the victim's pid it names the kill.
	SinceBoot time.Duration `json:"sinceBoot"`
	Victim    Culprit       `json:"victim"`
	// Init: the victim was the container's PID 1.
	Init bool `json:"init,omitempty"`
	// Exec: the victim was the process that an exec started, not a child of it. In a container
	// that shares the host's pid namespace it is not known of one whose beginning this daemon
	// did not see.
	Exec bool `json:"exec,omitempty"`
	// Trigger is who asked for the memory that was not there.
	Trigger Culprit `json:"trigger"`
	// Level is whose limit ran out: below, container, pod, node, global, or empty for unknown.
	Level string `json:"level,omitempty"`
	// Limit and Usage are that level's; with Swap they are of memory and swap together.
	Limit uint64 `json:"limit,omitempty"`
	Usage uint64 `json:"usage,omitempty"`
	Swap  bool   `json:"swap,omitempty"`
	// Anon, File, Shmem and Swapped are the victim's.
	Anon     uint64 `json:"anon,omitempty"`
	File     uint64 `json:"file,omitempty"`
	Shmem    uint64 `json:"shmem,omitempty"`
	Swapped  uint64 `json:"swapped,omitempty"`
	ScoreAdj int    `json:"scoreAdj,omitempty"`
	// Group: the processes of the victim's cgroup, or of one above it up to the level, are
	// killed together (memory.oom.group).
	Group bool `json:"group,omitempty"`
	// Likely: the level is the likely one, not a proven one.
	Likely bool `json:"likely,omitempty"`
	// Message is one sentence for a developer.
	Message string `json:"message,omitempty"`
	// Scene is who else held memory then, and what it was; nil is not known.
	Scene *Scene `json:"scene,omitempty"`
}

// Start is how a container began. A moment that has not come yet, or that nobody saw, is zero.
type Start struct {
	// Traceparent is the W3C trace context of StartContainer, under which each moment is told.
	Traceparent string `json:"traceparent,omitempty"`
	// Asked is when StartContainer asked for the execve.
	Asked time.Time `json:"asked"`
	// Cloned is when PID 1 was made, Exec when it became the user's program.
	Cloned time.Time `json:"cloned"`
	Exec   time.Time `json:"exec"`
	// Listen is when a process first listened on a TCP port, Port; Connection is when the
	// first connection to it was established.
	Listen     time.Time `json:"listen,omitzero"`
	Port       int       `json:"port,omitempty"`
	Connection time.Time `json:"connection,omitzero"`
	// Accept is when an accept first returned, if the container asked to know.
	Accept time.Time `json:"accept,omitzero"`
	// AtExec and AtListen are what the process had used by then.
	AtExec   StartUse `json:"atExec,omitzero"`
	AtListen StartUse `json:"atListen,omitzero"`
}

// StartUse is what a process had used at a moment: page faults, those of them that waited
// for a disk, and bytes that were read from one, which with a cold cache are the image's.
type StartUse struct {
	MinorFaults uint64 `json:"minorFaults,omitempty"`
	MajorFaults uint64 `json:"majorFaults,omitempty"`
	ReadBytes   uint64 `json:"readBytes,omitempty"`
}

// Culprit is a process that did something or to which something was done.
type Culprit struct {
	// PID is the host's, ContainerPID that of the process's own pid namespace.
	PID          int    `json:"pid"`
	ContainerPID int    `json:"containerPid,omitempty"`
	Command      string `json:"command,omitempty"`
	// UID is the host's.
	UID uint32 `json:"uid"`
}

// Stop is a request that a container end.
type Stop struct {
	At time.Time `json:"at"`
	// Signal is the one that was sent first, by name; Grace how long the container
	// then had.
	Signal string        `json:"signal,omitempty"`
	Grace  time.Duration `json:"grace"`
	// KilledAt is when SIGKILL was sent because Grace was over; zero if it was not.
	KilledAt time.Time `json:"killedAt,omitzero"`
	// Unheard says what PID 1 did with Signal when Grace was over: see the constants.
	// Empty: it has a handler, or that could not be seen.
	Unheard string `json:"unheard,omitempty"`
	// Traceparent is the W3C trace context of the request.
	Traceparent string `json:"traceparent,omitempty"`
}

// What becomes of a stop signal that does not end PID 1. Unhandled: it has no handler, and
// the kernel gives a PID 1 no default action (pid_namespaces(7)).
const (
	Unhandled = "unhandled"
	Ignored   = "ignored"
	Blocked   = "blocked"
)

// Sender is who sent the signal that ended a container.
type Sender struct {
	// From is where it was: see the constants. Name says it in people's words.
	From string `json:"from"`
	Name string `json:"name,omitempty"`
	Culprit
	// Address is that of a fault, Syscall the one that seccomp does not allow.
	Address uint64 `json:"address,omitempty"`
	Syscall string `json:"syscall,omitempty"`
}

// Where a sender was. FromRuntime is this daemon or the container's monitor, on behalf
// of a Stop.
const (
	FromSelf      = "self"
	FromContainer = "container"
	FromOther     = "other-container"
	FromHost      = "host"
	FromKernel    = "kernel"
	FromRuntime   = "runtime"
)
