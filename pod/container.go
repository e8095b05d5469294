package pod

import (
	"fmt"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Container is one container: kubelet's request and what became of it. It is a
// value; change a copy and hand it to lifecycle.
type Container struct {
	ID        ID    `json:"id"`
	SandboxID ID    `json:"sandboxId"`
	State     State `json:"state"`
	// Config is kubelet's request, verbatim.
	Config  ContainerConfig `json:"config"`
	Handler string          `json:"handler,omitempty"`
	// Image is what the request's image resolved to.
	Image ImageRef `json:"image"`
	// CreatedAt is set with the first record, the others when the state is reached.
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	// Rootfs is the mounted root file system.
	Rootfs string `json:"rootfs,omitempty"`
	// LogPath is absolute; empty means that output is discarded.
	LogPath string `json:"logPath,omitempty"`
	// Init is the container's PID 1 as the host sees it.
	Init Process `json:"init"`
	// Way is who made it: "enter", "libcontainer" or, for another handler, "runtime"; empty before that.
	Way string `json:"way,omitempty"`
	// Cgroup is the container's path in cgroupfs syntax below the hierarchy's root.
	Cgroup string `json:"cgroup,omitempty"`
	// Resources are those in force: the request's, then each update's.
	Resources *Resources `json:"resources,omitempty"`
	// User is the identity of PID 1 after the image and the request were merged.
	User User `json:"user"`
	// StopSignal is the signal that StopContainer sends first, by name, for example SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
	// Mounts are the request's mounts as they were performed.
	Mounts []Mount `json:"mounts,omitempty"`
	// Exit is set when the state is Exited.
	Exit *Exit `json:"exit,omitempty"`
	// Evidence is what else is known about the end and the kills before it.
	Evidence Evidence `json:"evidence,omitzero"`
	// Traceparent is the W3C trace context under which the container was made,
	// StartTraceparent that under which its program was started; empty before that.
	Traceparent      string `json:"traceparent,omitempty"`
	StartTraceparent string `json:"startTraceparent,omitempty"`
	// Previous is the attempt before this one of the same container, as far as it was
	// still there when this one was made; else empty.
	Previous ID `json:"previous,omitempty"`
}

// ImageRef names the image of a container.
type ImageRef struct {
	// ID is the image's config digest without algorithm, as PullImage returned it.
	ID string `json:"id"`
	// User is the reference that the pod's author wrote.
	User string `json:"user,omitempty"`
	// Digest is the repository digest, name@sha256:…; empty for images without one.
	Digest string `json:"digest,omitempty"`
}

// Resources wraps the CRI message so that records keep fields this build does not know.
type Resources struct {
	*runtime.LinuxContainerResources
}

// MarshalText encodes the message's wire bytes in base64.
func (r Resources) MarshalText() ([]byte, error) { return marshalWire(r.LinuxContainerResources) }

// UnmarshalText is the inverse of MarshalText.
func (r *Resources) UnmarshalText(text []byte) error {
	r.LinuxContainerResources = &runtime.LinuxContainerResources{}
	return unmarshalWire(text, r.LinuxContainerResources)
}

// User is the numeric identity of a container's PID 1.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Mount is one mount of the request as it was performed.
type Mount struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath,omitempty"`
	// Image is the digest of the image that an image volume shows.
	Image string `json:"image,omitempty"`
}

// SeccompKilled is the reason of a container that was killed for a system call that its
// profile refuses, because its pod wanted that.
const SeccompKilled = "SeccompKilled"

// Exit says how a container's PID 1 ended.
type Exit struct {
	// Code is what kubelet reports: the exit status, or 128 + signal. It is -1
	// when Source is "unknown", and never invented.
	Code int32 `json:"code"`
	// Signal is the terminating signal's number; 0 when the process called exit.
	Signal     int  `json:"signal,omitempty"`
	CoreDumped bool `json:"coreDumped,omitempty"`
	// Source says where the status comes from: "monitor" (it waited for the
	// process), "pidfd", "tracepoint", or "unknown".
	Source string `json:"source"`
	// Reason is the CRI reason: Completed, Error, OOMKilled, StartError, MonitorLost,
	// SeccompKilled.
	Reason string `json:"reason,omitempty"`
	// Message is one sentence for a developer; shown by kubectl describe pod.
	Message string `json:"message,omitempty"`
	// Sender is who sent the signal; nil without one, or when it was not observed.
	Sender *Sender `json:"sender,omitempty"`
	// UserTime and SystemTime are the CPU time of PID 1 and the children it waited for.
	UserTime   time.Duration `json:"userTime,omitempty"`
	SystemTime time.Duration `json:"systemTime,omitempty"`
	// MaxRSS is in bytes.
	MaxRSS int64 `json:"maxRss,omitempty"`
	// LogBytes and LogLines count what PID 1 and its children wrote to the log;
	// LogDropped counts bytes that could not be written, of which LogErrno is the last
	// cause, and LogLimited those that the log's rate limit left out.
	LogBytes   int64 `json:"logBytes,omitempty"`
	LogLines   int64 `json:"logLines,omitempty"`
	LogDropped int64 `json:"logDropped,omitempty"`
	LogLimited int64 `json:"logLimited,omitempty"`
	LogErrno   int   `json:"logErrno,omitempty"`
}

// ContainerKey is the identity by which kubelet retries within one sandbox.
type ContainerKey struct {
	SandboxID ID
	Name      string
	Attempt   uint32
}

// Key returns the identity of the request that made the container.
func (c Container) Key() ContainerKey {
	m := c.Config.GetMetadata()
	return ContainerKey{c.SandboxID, m.GetName(), m.GetAttempt()}
}

// String is the form used in messages.
func (k ContainerKey) String() string {
	return fmt.Sprintf("container %s attempt %d in sandbox %s", k.Name, k.Attempt, k.SandboxID.Short())
}
