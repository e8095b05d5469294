package lifecycle

import (
	"io"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Size is a terminal's size in character cells.
type Size struct{ Width, Height uint16 }

// Streams are the caller's ends of a session. A nil stream is not wanted. The
// caller keeps ownership; a session has ended its use of them when its call returns.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Resize delivers terminal sizes until it is closed; nil for none.
	Resize <-chan Size
}

// ExecRequest is one command to run in a running container.
type ExecRequest struct {
	Cmd []string
	// TTY gives the command a terminal; Stderr must then be nil, because a
	// terminal has one output.
	TTY bool
	Streams
}

// ExecResult is what a synchronous exec produced.
type ExecResult struct {
	// Stdout and Stderr hold at most ExecOutputLimit bytes each; what came after
	// was read and dropped.
	Stdout, Stderr []byte
	// ExitCode is the exit status, or 128 + signal.
	ExitCode int32
}

// ExecOutputLimit bounds each output stream of ExecSync, in bytes (CVE-2022-1708).
const ExecOutputLimit = 16 << 20

// AttachRequest joins the streams of a container's PID 1.
type AttachRequest struct {
	TTY bool
	Streams
}

// Operation is one operation in flight.
type Operation struct {
	// Name is the verb, for example "create_container".
	Name string
	// Subject is the pod, or pod/container, that it works on, in people's words.
	Subject string
	ID      pod.ID
	// Phase is the step it is in, and Since when that step began.
	Phase string
	Since time.Time
	Began time.Time
}

// HandlerInfo describes one runtime handler.
type HandlerInfo struct {
	// Name is the handler's name; the default one is listed under its own name
	// and under "".
	Name string
	// Runtime and Version are what the handler's runtime calls itself; empty when it
	// could not be asked.
	Runtime, Version string
	// RecursiveReadOnlyMounts and UserNamespaces are what the handler can do on
	// this kernel.
	RecursiveReadOnlyMounts bool
	UserNamespaces          bool
}

// Stats are one container's figures.
type Stats struct {
	Container pod.Container
	// At is when the figures were read.
	At     time.Time
	Cgroup CgroupStats
	// RootfsBytes and RootfsInodes are the writable layer's use; RootfsPath is
	// the mount point of the file system that it lies on.
	RootfsBytes, RootfsInodes uint64
	RootfsPath                string
	// FileSystem is that file system; nil when it cannot be told, and where only usage
	// was asked for.
	FileSystem *FileSystem
	// OpenFiles is the soft limit of open files of the first process; 0 as FileSystem is nil.
	OpenFiles uint64
}

// SandboxStats are one pod's figures and those of its running containers.
type SandboxStats struct {
	Sandbox    pod.Sandbox
	At         time.Time
	Cgroup     CgroupStats
	Interfaces []Interface
	Containers []Stats
}
