package pod

import "time"

// Event is one fact about a pod, published once by lifecycle after the fact is on
// disk. Its readers are CRI's GetContainerEvents, metrics, and the log; no reader
// may block the publisher.
type Event struct {
	// Seq grows by one per event of this daemon's life.
	Seq  uint64
	Time time.Time
	Kind EventKind
	// Sandbox is the pod at that moment; zero for a container that outlived its
	// sandbox's record.
	Sandbox Sandbox
	// Container is the subject, nil for events of the sandbox.
	Container *Container
	// Siblings are all containers of the pod at that moment, the subject included.
	Siblings []Container
	// From and To are the states of the subject; From is zero for a creation.
	From, To State
	// Kill is the OOM kill that ContainerOOM tells of; nil for the other kinds.
	Kill *OOMKill
	// Denial is what ContainerDenied tells of; nil for the other kinds.
	Denial *Denial
	// Stall is what ContainerLogStalled tells of; nil for the other kinds.
	Stall *LogStall
}

// EventKind is what happened.
type EventKind string

// The kinds.
const (
	SandboxReady     EventKind = "sandbox.ready"
	SandboxStopped   EventKind = "sandbox.stopped"
	SandboxRemoved   EventKind = "sandbox.removed"
	ContainerCreated EventKind = "container.created"
	ContainerStarted EventKind = "container.started"
	ContainerExited  EventKind = "container.exited"
	ContainerRemoved EventKind = "container.removed"
	// ContainerOOM: a process of the container was OOM-killed. It is no change of state.
	ContainerOOM EventKind = "container.oom"
	// ContainerDenied: the container was refused something that it had not been refused
	// before, see Denial.Alike; at most MaxDenialEvents times. It is no change of state.
	ContainerDenied EventKind = "container.denied"
	// ContainerLogStalled: the file system of the container's log did not answer, and its
	// monitor went on without it. It is no change of state.
	ContainerLogStalled EventKind = "container.logstalled"
)

// Change says whether the event tells of a change of state.
func (k EventKind) Change() bool { return k != ContainerOOM && k != ContainerDenied }

// Subject returns the ID of the container or, for sandbox events, of the sandbox.
func (e Event) Subject() ID {
	if e.Container != nil {
		return e.Container.ID
	}
	return e.Sandbox.ID
}
