package pod

import (
	"fmt"
	"time"
)

// Sandbox is one pod sandbox: kubelet's request and what became of it. It is a
// value; change a copy and hand it to lifecycle.
type Sandbox struct {
	ID    ID    `json:"id"`
	State State `json:"state"`
	// Config is kubelet's request, verbatim.
	Config SandboxConfig `json:"config"`
	// Handler is the runtime handler as requested; empty means the default one.
	Handler   string    `json:"handler,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	// StoppedAt is when the sandbox became NotReady; zero before.
	StoppedAt time.Time `json:"stoppedAt,omitzero"`
	// Namespaces are the pinned namespaces, set before the state is Ready.
	Namespaces Namespaces `json:"namespaces"`
	// Network is what CNI gave the pod; empty on the host's network.
	Network NetworkStatus `json:"network"`
	// CgroupParent is the pod's cgroup in cgroupfs syntax, absolute below the
	// hierarchy's root.
	CgroupParent string `json:"cgroupParent,omitempty"`
	// OwnCgroup says that the runtime made the pod's cgroup, because nobody had, and
	// removes it with the sandbox. Kubelet makes and removes its pods' itself.
	OwnCgroup bool `json:"ownCgroup,omitempty"`
	// Resources and Overhead are what UpdatePodSandboxResources said last: the sum of
	// the pod's containers, and what the pod costs beside them. nil until then; the
	// request's own are in Config.
	Resources *Resources `json:"resources,omitempty"`
	Overhead  *Resources `json:"overhead,omitempty"`
	// Init is the process that holds a shared pid namespace; zero when containers
	// have their own.
	Init Process `json:"init"`
	// Traceparent is the W3C trace context under which the sandbox was made;
	// later spans of its life link to it.
	Traceparent string `json:"traceparent,omitempty"`
	// SELinux labels of the pod, empty where SELinux is off.
	ProcessLabel string `json:"processLabel,omitempty"`
	MountLabel   string `json:"mountLabel,omitempty"`
}

// Namespaces holds the paths at which a pod's shared namespaces are pinned.
// An empty path means that the pod does not share that namespace or uses the host's.
type Namespaces struct {
	Net  string `json:"net,omitempty"`
	IPC  string `json:"ipc,omitempty"`
	UTS  string `json:"uts,omitempty"`
	User string `json:"user,omitempty"`
	PID  string `json:"pid,omitempty"`
}

// NetworkStatus is the outcome of the CNI ADD.
type NetworkStatus struct {
	// IPs are the pod's addresses, the primary one first.
	IPs []string `json:"ips,omitempty"`
	// Network is the name of the CNI network that was used, so that DEL uses the
	// same one after the configuration has changed.
	Network string `json:"network,omitempty"`
	// ConfList is the conflist that was used, verbatim, for the same reason.
	ConfList []byte `json:"confList,omitempty"`
}

// Process names a process across pid reuse. Zero means no process.
type Process struct {
	PID int `json:"pid,omitempty"`
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)).
	StartTime uint64 `json:"startTime,omitempty"`
}

// SandboxKey is the identity by which kubelet retries: two requests with the same
// key mean the same sandbox.
type SandboxKey struct {
	Namespace, Name, UID string
	Attempt              uint32
}

// Key returns the identity of the request that made the sandbox.
func (s Sandbox) Key() SandboxKey {
	m := s.Config.GetMetadata()
	return SandboxKey{m.GetNamespace(), m.GetName(), m.GetUid(), m.GetAttempt()}
}

// String is the form used in messages: namespace/name attempt n.
func (k SandboxKey) String() string {
	return fmt.Sprintf("%s/%s attempt %d", k.Namespace, k.Name, k.Attempt)
}
