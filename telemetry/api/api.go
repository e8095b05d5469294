// Package api holds what the daemon's admin socket answers, as the daemon writes it
// and the command line reads it: one place for both. It is types only.
package api

import (
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
