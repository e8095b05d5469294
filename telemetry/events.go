package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"syscall"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/life"
)

// Observe turns one event into metrics and one line of the log. It does not block.
// The caller passes every event once, in order.
func (t *Telemetry) Observe(e pod.Event) {
	t.metrics.add(events, 1, string(e.Kind))
	if c := e.Container; c != nil {
		switch e.Kind {
		case pod.ContainerStarted:
			if !c.StartedAt.IsZero() && !c.CreatedAt.IsZero() {
				t.metrics.observe(containerStartLatency, c.StartedAt.Sub(c.CreatedAt), nil, c.Handler)
			}
		case pod.ContainerExited:
			t.exited(e, c)
		case pod.ContainerOOM:
			if e.Kill != nil {
				t.oomKill(*e.Kill)
			}
		case pod.ContainerRemoved:
			t.account.forget(c.ID)
		}
	}
	t.memory.event(e)
	t.log(e)
}

func (t *Telemetry) oomKill(kill pod.OOMKill) {
	victim := "child"
	switch {
	case kill.Init:
		victim = "init"
	case kill.Exec:
		victim = "exec"
	}
	t.metrics.add(oomKills, 1, victim, cmp.Or(kill.Level, "unknown"))
}

func (t *Telemetry) exited(e pod.Event, c *pod.Container) {
	exit := pod.Exit{Source: "unknown"}
	if c.Exit != nil {
		exit = *c.Exit
	}
	reason := life.Reason(exit)
	t.metrics.add(containerExits, 1, reason, initiator(e, exit, reason))
	if reason == "monitorlost" {
		t.metrics.add(monitorsLost, 1)
	}
	if !c.StartedAt.IsZero() && c.FinishedAt.After(c.StartedAt) {
		t.metrics.observe(containerLifetime, c.FinishedAt.Sub(c.StartedAt), nil)
	}
	bytes, lines, lost := t.account.rest(c.ID, exit)
	t.metrics.add(logBytes, bytes, "mixed")
	t.metrics.add(logRecords, lines, "mixed")
	t.metrics.add(logDroppedBytes, lost, "mixed", dropReason(exit.LogErrno))
	t.metrics.add(logDroppedBytes, float64(exit.LogLimited), "mixed", "ratelimit")
}

// dropReason is the label of log_dropped_bytes_total for an error of writing a log.
func dropReason(errno int) string {
	switch syscall.Errno(errno) {
	case syscall.ENOSPC, syscall.EDQUOT:
		return "enospc"
	case syscall.EIO:
		return "eio"
	case syscall.EROFS:
		return "erofs"
	case syscall.ETIMEDOUT: // the file system did not answer, and the monitor went on without it
		return "stalled"
	}
	return "unknown"
}

// initiator says who wanted the end, as far as the event tells.
func initiator(e pod.Event, x pod.Exit, reason string) string {
	switch {
	case reason == "oom" || reason == "seccomp":
		return "kernel"
	case x.Sender != nil && x.Signal != 0 && initiators[x.Sender.From] != "":
		return initiators[x.Sender.From]
	case e.From == pod.Stopping:
		return "kubelet"
	case x.Signal == 0 && (reason == "completed" || reason == "error"):
		return "self"
	}
	return "unknown"
}

// initiators are the senders of signals in the label's words.
var initiators = map[string]string{
	pod.FromSelf: "self", pod.FromContainer: "container", pod.FromOther: "container",
	pod.FromHost: "host", pod.FromKernel: "kernel", pod.FromRuntime: "kubelet",
}

// messages of the log, one per kind.
var messages = map[pod.EventKind]string{
	pod.SandboxReady: "sandbox ready", pod.SandboxStopped: "sandbox stopped", pod.SandboxRemoved: "sandbox removed",
	pod.ContainerCreated: "container created", pod.ContainerStarted: "container started",
	pod.ContainerExited: "container exited", pod.ContainerRemoved: "container removed",
	pod.ContainerOOM: "process OOM-killed", pod.ContainerDenied: "container denied something",
	pod.ContainerLogStalled: "container's log does not answer",
}

func (t *Telemetry) log(e pod.Event) {
	message, known := messages[e.Kind]
	if !known {
		message = "pod event"
	}
	level := slog.LevelInfo
	m := e.Sandbox.Config.GetMetadata()
	attrs := []slog.Attr{
		slog.Uint64("seq", e.Seq), slog.String("kind", string(e.Kind)),
		slog.String("namespace", m.GetNamespace()), slog.String("pod", m.GetName()), slog.String("pod_uid", m.GetUid()),
		slog.String("sandbox", string(e.Sandbox.ID)),
	}
	if c := e.Container; c != nil {
		attrs = append(attrs, slog.String("container", c.Config.GetMetadata().GetName()), slog.String("container_id", string(c.ID)))
		if id := traceID(c.Traceparent); id != "" {
			attrs = append(attrs, slog.String("trace_id", id))
		}
		if x := c.Exit; x != nil && e.Kind == pod.ContainerExited {
			attrs = append(attrs, slog.Int("code", int(x.Code)), slog.String("reason", x.Reason), slog.String("source", x.Source))
			if x.Signal != 0 {
				attrs = append(attrs, slog.String("signal", syscall.Signal(x.Signal).String()))
			}
			if x.Message != "" {
				attrs = append(attrs, slog.String("detail", clip(x.Message, 1024)))
			}
			if x.Sender != nil {
				attrs = append(attrs, slog.String("sender", x.Sender.From), slog.Int("sender_pid", x.Sender.PID))
			}
			if x.Reason == "OOMKilled" || x.Reason == "MonitorLost" {
				level = slog.LevelWarn
			}
		}
		if k := e.Kill; k != nil {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("victim", k.Victim.Command), slog.Int("victim_pid", k.Victim.PID), slog.Bool("init", k.Init), slog.Bool("exec", k.Exec),
				slog.String("level", k.Level), slog.Uint64("limit_bytes", k.Limit), slog.Uint64("usage_bytes", k.Usage), slog.String("detail", clip(k.Message, 1024)))
		}
		if s := e.Stall; s != nil {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("path", s.Path), slog.Uint64("before", s.Before))
		}
		if d := e.Denial; d != nil {
			attrs = append(attrs, slog.String("layer", d.Layer), slog.String("syscall", d.Syscall), slog.String("capability", d.Capability),
				slog.String("detail", clip(d.What, 1024)), slog.String("remedy", clip(d.Remedy, 1024)))
		}
	} else if id := traceID(e.Sandbox.Traceparent); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	t.Logger().LogAttrs(context.Background(), level, message, attrs...)
}

// traceID cuts the id out of a W3C traceparent, empty when it is none.
func traceID(traceparent string) string {
	if len(traceparent) < 55 || traceparent[2] != '-' || traceparent[35] != '-' {
		return ""
	}
	return traceparent[3:35]
}

// account remembers what monitors have reported of each container's log, so that
// the totals of an exit record are not counted a second time. It is safe for
// concurrent use.
type account struct {
	mu   sync.Mutex // guards seen
	seen map[pod.ID]*totals
}

// totals are cumulative per container and stream.
type totals struct{ bytes, lines, dropped map[string]float64 }

// maxAccounts bounds the map; containers beyond it are counted at their exit.
const maxAccounts = 8192

func newAccount() *account { return &account{seen: map[pod.ID]*totals{}} }

// grow records a cumulative value and returns by how much it grew; 0 when there is no room.
func (a *account) grow(id pod.ID, key string, pick func(*totals) map[string]float64, value float64) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.seen[id]
	if t == nil {
		if len(a.seen) >= maxAccounts {
			return 0
		}
		t = &totals{map[string]float64{}, map[string]float64{}, map[string]float64{}}
		a.seen[id] = t
	}
	m := pick(t)
	if value <= m[key] || len(m) >= 16 && m[key] == 0 {
		return 0
	}
	grown := value - m[key]
	m[key] = value
	return grown
}

// rest is what an exit record says beyond what was reported before; never negative.
func (a *account) rest(id pod.ID, x pod.Exit) (bytes, lines, dropped float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.seen[id]
	if t == nil {
		t = &totals{}
	}
	beyond := func(total int64, m map[string]float64) float64 {
		left := float64(total)
		for _, v := range m {
			left -= v
		}
		return max(0, left)
	}
	return beyond(x.LogBytes, t.bytes), beyond(x.LogLines, t.lines), beyond(x.LogDropped, t.dropped)
}

func (a *account) forget(id pod.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.seen, id)
}
