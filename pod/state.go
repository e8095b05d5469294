package pod

import "fmt"

// State of a sandbox or a container. There are no booleans beside it: an object
// that is being stopped is in state Stopping.
//
// Sandbox:
//
//	Creating ──► Ready ──► Stopping ──► NotReady ──► Removing ──► (gone)
//	   │           └───────────────────────▲ (died)     ▲
//	   └────────────────────────────────────────────────┘ (undo)
//
// Container:
//
//	Creating ──► Created ──► Starting ──► Running ──► Stopping ──► Exited ──► Removing ──► (gone)
//	   │            │            │           └──────────────────────▲  ▲         ▲
//	   │            └────────────┴─────────────────────────────────────┘         │
//	   └─────────────────────────────────────────────────────────────────────────┘ (undo)
//
// Created and Starting go straight to Exited when the init process dies before
// the user's program was executed.
type State uint8

// The states. Zero is no state; a record with it is refused.
const (
	Creating State = iota + 1
	// Ready is a sandbox that can take containers.
	Ready
	// Created is a container whose init waits at the exec fifo.
	Created
	// Starting is a container whose fifo has been opened but whose execve is not confirmed.
	Starting
	Running
	Stopping
	// NotReady is a sandbox that has been stopped; its record lives until removal.
	NotReady
	Exited
	Removing
)

var stateNames = [...]string{
	Creating: "creating", Ready: "ready", Created: "created", Starting: "starting", Running: "running",
	Stopping: "stopping", NotReady: "not-ready", Exited: "exited", Removing: "removing",
}

// sandboxMoves and containerMoves are the tables of legal moves: from → to.
var (
	sandboxMoves = map[State][]State{
		Creating: {Ready, Removing},
		Ready:    {Stopping, NotReady},
		Stopping: {NotReady},
		NotReady: {Stopping, Removing},
	}
	containerMoves = map[State][]State{
		Creating: {Created, Removing},
		Created:  {Starting, Stopping, Exited},
		Starting: {Running, Stopping, Exited},
		Running:  {Stopping, Exited},
		Stopping: {Exited},
		Exited:   {Removing},
	}
)

// CheckSandboxMove reports ErrState when the table does not allow from → to.
func CheckSandboxMove(from, to State) error { return checkMove("sandbox", sandboxMoves, from, to) }

// CheckContainerMove reports ErrState when the table does not allow from → to.
func CheckContainerMove(from, to State) error {
	return checkMove("container", containerMoves, from, to)
}

func checkMove(what string, table map[State][]State, from, to State) error {
	for _, legal := range table[from] {
		if legal == to {
			return nil
		}
	}
	return fmt.Errorf("%w: %s cannot go from %s to %s", ErrState, what, from, to)
}

// String returns the state's name as it stands in records, events and logs.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText writes the name, so that records stay readable and stable when a
// state is added.
func (s State) MarshalText() ([]byte, error) {
	if int(s) >= len(stateNames) || stateNames[s] == "" {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, s)
	}
	return []byte(stateNames[s]), nil
}

// UnmarshalText accepts the names that MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name != "" && name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%w: unknown state %.40q", ErrInvalid, text)
}
