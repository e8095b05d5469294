package pod

import "time"

// Denial is one thing that a container was refused, however often: a line of its
// ledger as the record keeps it.
type Denial struct {
	// Layer is who refused: seccomp, capability, selinux, read-only, device, apparmor, or
	// permission when that cannot be told.
	Layer string `json:"layer"`
	// Syscall and Capability (without CAP_) are names; empty where there was none.
	Syscall    string `json:"syscall,omitempty"`
	Capability string `json:"capability,omitempty"`
	// Error is what the syscall returned, by name; empty if nobody saw it. Signal is what
	// seccomp sent instead.
	Error  string `json:"error,omitempty"`
	Signal string `json:"signal,omitempty"`
	// Path is as the process gave it, at most 95 bytes; of SELinux, the class.
	Path  string    `json:"path,omitempty"`
	Count uint64    `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Process was the first to be refused; its UID is not known.
	Process Culprit `json:"process"`
	// What is one sentence for a developer, Remedy what would allow it in the words of a
	// pod's specification.
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// MaxDenials bounds the denials that a record keeps, MaxDenialEvents those of a container
// that are told as events.
const (
	MaxDenials      = 64
	MaxDenialEvents = 16
)

// Alike says whether a reader who knows one of the two learns nothing new in kind from
// the other: the same layer refused the same call for the same reason, elsewhere or with
// another error.
func (d Denial) Alike(o Denial) bool {
	return d.Layer == o.Layer && d.Syscall == o.Syscall && d.Capability == o.Capability
}
