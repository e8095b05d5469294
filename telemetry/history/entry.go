package history

import (
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// Kind says which part of an Entry is set.
type Kind string

// The kinds.
const (
	// KindEvent is a pod.Event.
	KindEvent Kind = "event"
	// KindBegun is an operation that has begun, KindEnded that one's end, whatever came
	// of it: their Begun is equal. One without an end was cut off.
	KindBegun Kind = "begun"
	KindEnded Kind = "ended"
	// KindTrace is the key steps of one call that has ended.
	KindTrace Kind = "trace"
	// KindFigures is what was counted of a container up to its end.
	KindFigures Kind = "figures"
	// KindDaemon is the begin or the orderly end of a daemon's life.
	KindDaemon Kind = "daemon"
)

// Entry is one thing that happened. Which pod and container it is about stands in the
// fields of Subject; they are empty for entries about the node.
type Entry struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	Subject
	Event   *Event           `json:"event,omitempty"`
	Begun   *Begun           `json:"begun,omitempty"`
	Trace   *waterfall.Trace `json:"trace,omitempty"`
	Figures *Figures         `json:"figures,omitempty"`
	Daemon  *Daemon          `json:"daemon,omitempty"`
}

// Subject is the pod, or the container, that an entry is about.
type Subject struct {
	Namespace   string `json:"namespace,omitempty"`
	Pod         string `json:"pod,omitempty"`
	UID         string `json:"uid,omitempty"`
	Sandbox     string `json:"sandbox,omitempty"`
	Container   string `json:"container,omitempty"`
	ContainerID string `json:"containerId,omitempty"`
	// Image is the reference of a pull; empty for everything else.
	Image string `json:"image,omitempty"`
}

// Event is what is kept of a pod.Event.
type Event struct {
	Kind     pod.EventKind `json:"kind"`
	From     pod.State     `json:"from,omitempty"`
	To       pod.State     `json:"to,omitempty"`
	Attempt  uint32        `json:"attempt,omitempty"`
	Image    string        `json:"image,omitempty"`
	LogPath  string        `json:"logPath,omitempty"`
	Created  time.Time     `json:"created,omitzero"`
	Started  time.Time     `json:"started,omitzero"`
	Finished time.Time     `json:"finished,omitzero"`
	Exit     *pod.Exit     `json:"exit,omitempty"`
	// Denial is that of container.denied. Denials are the first MaxDenials of a container
	// that has ended, of AllDenials different ones.
	Denial     *pod.Denial  `json:"denial,omitempty"`
	Denials    []pod.Denial `json:"denials,omitempty"`
	AllDenials int          `json:"allDenials,omitempty"`
	// Stall is that of container.logstalled.
	Stall *pod.LogStall `json:"stall,omitempty"`
	// Calls are the last MaxCalls of a container that has ended with an error and had a
	// flight recorder.
	Calls []pod.Call `json:"calls,omitempty"`
	// Life is set for container.exited.
	Life *Life `json:"life,omitempty"`
}

// Life is what is known of a container's life beside its figures: what it followed
// from, and what befell it.
type Life struct {
	Handler string `json:"handler,omitempty"`
	// Created and Started are the W3C trace contexts of the requests that made and
	// started it; empty where there was none.
	Created string `json:"created,omitempty"`
	Started string `json:"started,omitempty"`
	// Previous is the id of the attempt before it.
	Previous string `json:"previous,omitempty"`
	// Kills are the last pod.MaxKills OOM kills of AllKills.
	Kills    []pod.OOMKill `json:"kills,omitempty"`
	AllKills uint64        `json:"allKills,omitempty"`
	Stop     *pod.Stop     `json:"stop,omitempty"`
}

// LifeOf takes from a container's record what its life needs.
func LifeOf(c pod.Container) *Life {
	return &Life{
		Handler: c.Handler, Created: c.Traceparent, Started: c.StartTraceparent, Previous: string(c.Previous),
		Kills: c.Evidence.Kills, AllKills: c.Evidence.OOMKills, Stop: c.Evidence.Stop,
	}
}

// MaxCalls bounds the system calls that an entry keeps.
const MaxCalls = 16

// MaxDenials bounds the denials that an entry keeps.
const MaxDenials = 16

// Begun is one operation: the name and the id of its span.
type Begun struct {
	Name string `json:"name"`
	Span string `json:"span"`
}

// Figures are what was counted of one container up to its end. Zero means none or not
// known.
type Figures struct {
	// Periods and ThrottledPeriods are CFS bandwidth control's, Throttled the time
	// that the container stood still for it, CPU what it used.
	Periods          uint64        `json:"periods,omitempty"`
	ThrottledPeriods uint64        `json:"throttledPeriods,omitempty"`
	Throttled        time.Duration `json:"throttled,omitempty"`
	CPU              time.Duration `json:"cpu,omitempty"`
	// CPUStall, MemoryStall and IOStall are the time in which some task waited (PSI).
	CPUStall    time.Duration `json:"cpuStall,omitempty"`
	MemoryStall time.Duration `json:"memoryStall,omitempty"`
	IOStall     time.Duration `json:"ioStall,omitempty"`
	// RunDelay is how long processes that still run waited for a CPU that others used,
	// the longest of them: of a container that has ended it is not known.
	RunDelay time.Duration `json:"runDelay,omitempty"`
	// Memory figures are bytes; MemoryFailures counts charges refused at the limit.
	MemoryPeak     uint64 `json:"memoryPeak,omitempty"`
	MemoryLimit    uint64 `json:"memoryLimit,omitempty"`
	MemoryFailures uint64 `json:"memoryFailures,omitempty"`
	// MemoryFiles are files in memory: tmpfs, shared memory, volumes of medium Memory.
	MemoryFiles uint64 `json:"memoryFiles,omitempty"`
	// MemoryHigh counts the times above memory.high, MajorFaults pages read from disk.
	MemoryHigh  uint64 `json:"memoryHigh,omitempty"`
	MajorFaults uint64 `json:"majorFaults,omitempty"`
	OOMKills    uint64 `json:"oomKills,omitempty"`
	Threads     uint64 `json:"threads,omitempty"`
	ThreadLimit uint64 `json:"threadLimit,omitempty"`
	// ThreadFailures counts forks that a limit of tasks refused.
	ThreadFailures uint64 `json:"threadFailures,omitempty"`
	// Execs are the commands run in the container, probes among them.
	Execs Execs `json:"execs,omitzero"`
	// Full names the places on a disk without room for what the container wrote there: its
	// writable layer, its log.
	Full string `json:"full,omitempty"`
	// Refused names a device in Output that the container was not given, with its reason.
	Refused string `json:"refused,omitempty"`
	// Output is the end of what a container that failed wrote, at most 1 KiB.
	Output string `json:"output,omitempty"`
}

// Execs counts commands that were run in a container with ExecSync.
type Execs struct {
	Count int `json:"count,omitempty"`
	// Failed could not be run or did not end in time, NonZero ended with another code
	// than 0, which is how a probe fails.
	Failed  int `json:"failed,omitempty"`
	NonZero int `json:"nonZero,omitempty"`
	// Streak are the last of them one after the other that failed or ended with another
	// code than 0.
	Streak int `json:"streak,omitempty"`
	// Code is the exit code of the last that ended with another than 0.
	Code     int32         `json:"code,omitempty"`
	Timeouts int           `json:"timeouts,omitempty"`
	Total    time.Duration `json:"total,omitempty"`
	Longest  time.Duration `json:"longest,omitempty"`
	// Last is when the last of them ended.
	Last time.Time `json:"last,omitzero"`
}

// Daemon is one end of a daemon's life.
type Daemon struct {
	PID     int    `json:"pid"`
	Boot    string `json:"boot,omitempty"`
	Version string `json:"version,omitempty"`
	// Ended: the daemon ended in order. A beginning that follows another beginning
	// means that the one before was killed.
	Ended bool `json:"ended,omitempty"`
}

// FromEvent keeps of an event what a later reader asks for.
func FromEvent(e pod.Event) Entry {
	m := e.Sandbox.Config.GetMetadata()
	entry := Entry{Time: e.Time, Kind: KindEvent,
		Subject: Subject{Namespace: m.GetNamespace(), Pod: m.GetName(), UID: m.GetUid(), Sandbox: string(e.Sandbox.ID)},
		Event:   &Event{Kind: e.Kind, From: e.From, To: e.To, Created: e.Sandbox.CreatedAt, Attempt: m.GetAttempt()},
	}
	if c := e.Container; c != nil {
		entry.Container, entry.ContainerID = c.Config.GetMetadata().GetName(), string(c.ID)
		entry.Event.Attempt = c.Config.GetMetadata().GetAttempt()
		entry.Event.Image, entry.Event.LogPath = c.Image.User, c.LogPath
		entry.Event.Created, entry.Event.Started, entry.Event.Finished = c.CreatedAt, c.StartedAt, c.FinishedAt
		entry.Event.Exit, entry.Event.Denial, entry.Event.Stall = c.Exit, e.Denial, e.Stall
		if all := c.Evidence.Denials; e.Kind == pod.ContainerExited {
			entry.Event.Denials = all[:min(len(all), MaxDenials)]
			entry.Event.AllDenials = len(all) + int(min(c.Evidence.DenialsLost, 1<<30))
			entry.Event.Life = LifeOf(*c)
			if f := c.Evidence.Flight; f != nil {
				entry.Event.Calls = f.Calls[max(0, len(f.Calls)-MaxCalls):]
			}
		}
	}
	return entry
}

// Keys are the names under which an entry is found.
func (s Subject) Keys() []string {
	var keys []string
	for _, key := range []string{s.UID, s.Sandbox, s.ContainerID, s.Pod, s.Image} {
		if key != "" {
			keys = append(keys, key)
		}
	}
	if s.Pod != "" && s.Namespace != "" {
		keys = append(keys, s.Namespace+"/"+s.Pod)
		if s.Container != "" {
			keys = append(keys, s.Namespace+"/"+s.Pod+"/"+s.Container)
		}
	}
	return keys
}

// minPrefix is how many digits of an id name it.
const minPrefix = 6

// Matches says whether a query names the subject: namespace/pod,
// namespace/pod/container, a pod's name or uid, a sandbox's or container's id, the
// first six digits or more of one of these ids, or the image of a pull.
func (s Subject) Matches(query string) bool {
	prefix := len(query) >= minPrefix && strings.Trim(query, "0123456789abcdef-") == ""
	for _, key := range s.Keys() {
		if key == query || prefix && strings.HasPrefix(key, query) {
			return true
		}
	}
	return false
}
