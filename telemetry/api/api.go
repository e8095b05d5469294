// Package api holds what the daemon's admin socket answers, as the daemon writes it
// and the command line reads it: one place for both. It is types only.
package api

import (
	"encoding/json"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Status is the answer to GET /v1/status: the node at a glance.
type Status struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"startedAt"`
	// Sandboxes and Containers are numbers by state.
	Sandboxes  map[string]int `json:"sandboxes"`
	Containers map[string]int `json:"containers"`
	Images     int            `json:"images"`
	// Network is "ready", or why pods cannot be connected.
	Network    string      `json:"network"`
	Operations []Operation `json:"operations"`
}

// Operation is something that the daemon is doing.
type Operation struct {
	// Subject is the pod, or pod/container.
	Subject string `json:"subject"`
	Name    string `json:"name"`
	// Phase is the step that it is in, since Since; the whole began at Began.
	Phase string    `json:"phase"`
	Since time.Time `json:"since"`
	Began time.Time `json:"began"`
	ID    pod.ID    `json:"id"`
	// Blocked is what the step waits for, as far as the daemon knows; empty if it does not.
	Blocked *Blocked `json:"blocked,omitempty"`
}

// Blocked is what an operation waits for: On is the innermost step that has begun and
// not ended, or the operation that holds the pod, since Since.
type Blocked struct {
	On    string    `json:"on"`
	Since time.Time `json:"since"`
}

// Event is one line of the stream of GET /v1/events.
type Event struct {
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Pod       string    `json:"pod"`
	Sandbox   pod.ID    `json:"sandbox"`
	Container string    `json:"container,omitempty"`
	ID        pod.ID    `json:"containerId,omitempty"`
	Exit      *pod.Exit `json:"exit,omitempty"`
	// Kill is set for container.oom.
	Kill *pod.OOMKill `json:"kill,omitempty"`
	// Denial is set for container.denied.
	Denial *pod.Denial `json:"denial,omitempty"`
	// Stall is set for container.logstalled.
	Stall *pod.LogStall `json:"stall,omitempty"`
}

// Denials is what one container was denied, the answer to GET /v1/denials is a list of
// them.
type Denials struct {
	// Pod is namespace/name.
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	State     string `json:"state"`
	// Observed: the kernel's programs have known the container from its start.
	Observed bool `json:"observed"`
	// Denials are in the order of time; Lost counts those beyond the ledger's room.
	Denials []pod.Denial `json:"denials"`
	Lost    uint64       `json:"lost,omitempty"`
}

// Syscalls is what one container called; the answer to GET /v1/syscalls is a list of them.
type Syscalls struct {
	// Pod is namespace/name.
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	State     string `json:"state"`
	pod.Syscalls
}

// Flight is what one container called last; the answer to GET /v1/flight is a list of them.
type Flight struct {
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	State     string `json:"state"`
	pod.Flight
}

// Learning is the answer to POST /v1/seccomp/learn and /v1/seccomp/end, a list of them:
// a container whose seccomp profile is being learned, or no longer.
type Learning struct {
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	// Since is when it began, Whole that no call was made before.
	Since time.Time `json:"since,omitzero"`
	Whole bool      `json:"whole"`
	// Error says why it is not learned; empty if it is.
	Error string `json:"error,omitempty"`
}

// Profile is the answer to GET /v1/seccomp/profile: what was learned of one container.
type Profile struct {
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	State     string `json:"state"`
	// From, To and Whole are those of pod.Syscalls.
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Whole bool      `json:"whole"`
	// Called are the container's own system calls; Refused those that seccomp answered
	// every time, which the profile does not allow.
	Called  []string `json:"called"`
	Refused []string `json:"refused"`
	// Profile is the file: seccomp of the OCI runtime specification, which is Kubernetes'
	// localhost profile.
	Profile json.RawMessage `json:"profile"`
}

// Pulls is the answer to GET /v1/pulls, the oldest first.
type Pulls struct {
	Pulls []Pull `json:"pulls"`
}

// Pull is a pull under way.
type Pull struct {
	Ref   string    `json:"ref"`
	Since time.Time `json:"since"`
	// Phase is the step that it is in, Waiters the requests that will get the result.
	Phase   string `json:"phase"`
	Waiters int    `json:"waiters"`
	// Bytes of compressed layers have come of Total, which is 0 until the manifest is known.
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
}

// OOM is one line of the answer to GET /v1/oom, the latest first: an OOM kill, and how
// its container stands now.
type OOM struct {
	pod.OOMKill
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	State     string `json:"state"`
	// Reason and Exited are those of the container's end, if it has ended.
	Reason string     `json:"reason,omitempty"`
	Exited *time.Time `json:"exited,omitempty"`
	// Kills counts all kills of the container; its record keeps the last of them.
	Kills uint64 `json:"kills"`
}

// MonitorUpgrade is one line of the answer to POST /v1/monitors/upgrade: the program
// that a monitor now runs, or why it keeps its own.
type MonitorUpgrade struct {
	ID    pod.ID `json:"containerId"`
	Name  string `json:"container"`
	Build string `json:"build,omitempty"`
	Error string `json:"error,omitempty"`
}

// Feature is one line of the answer to GET /v1/check: something that this host can do
// or not, and what follows.
type Feature struct {
	Feature     string `json:"feature"`
	OK          bool   `json:"ok"`
	Consequence string `json:"consequence"`
	Room        string `json:"room"`
}

// Usage is one line of the answer to GET /v1/top: what a container has used since it
// was made. Whoever wants rates asks twice.
type Usage struct {
	At        time.Time `json:"at"`
	Pod       string    `json:"pod"`
	Container string    `json:"container"`
	ID        pod.ID    `json:"containerId"`
	// CPU and Throttled are nanoseconds; Periods and ThrottledPeriods are those of CFS
	// bandwidth control.
	CPU              time.Duration `json:"cpu"`
	Throttled        time.Duration `json:"throttled"`
	Periods          uint64        `json:"periods"`
	ThrottledPeriods uint64        `json:"throttledPeriods"`
	// Memory is the working set in bytes, MemoryLimit 0 without one.
	Memory      uint64 `json:"memory"`
	MemoryLimit uint64 `json:"memoryLimit"`
	// Tasks are threads; TaskLimit is 0 without one.
	Tasks     uint64 `json:"tasks"`
	TaskLimit uint64 `json:"taskLimit"`
	// Pressure is nil where the kernel keeps no account of it (cgroup v1).
	Pressure *Pressure `json:"pressure,omitempty"`
	// LogBytes have come from the container, LogDropped of them could not be written.
	LogBytes   int64 `json:"logBytes"`
	LogDropped int64 `json:"logDropped"`
}

// Pressure is the share of the last ten seconds, in percent, in which some task of a
// container waited (PSI).
type Pressure struct {
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	IO     float64 `json:"io"`
}

// Log is one line of the answer to GET /v1/logs: where the log of one attempt of a
// container is, the oldest attempt first.
type Log struct {
	Pod       string    `json:"pod"`
	Container string    `json:"container"`
	ID        pod.ID    `json:"containerId"`
	Attempt   uint32    `json:"attempt"`
	Created   time.Time `json:"created"`
	// Ended: nothing more will be written. Gone: the container was removed.
	Ended bool `json:"ended"`
	Gone  bool `json:"gone"`
	// Path is the log's; empty: its output was discarded.
	Path string `json:"path"`
	// Words are the last that the history keeps of a container that failed.
	Words string `json:"words,omitempty"`
}

// Pod is one line of the answer to GET /v1/pods.
type Pod struct {
	Name       string   `json:"name"` // namespace/name
	Containers []string `json:"containers"`
}
