// Package life describes a container's life as one span: from the execution of its
// program to its end, with what befell it on the way as the span's events.
//
// A life is a trace of its own, because it may last for months while the trace of a
// start is whole after seconds. It is linked to the requests that made, started and
// stopped the container, and to the life of the attempt before it. Its ids are the
// first digits of the container's id: whoever knows a container knows its life, in the
// daemon that saw it start, in the next, and after the record is gone.
//
// The package is pure.
package life

import (
	"cmp"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

// Name of the span.
const Name = "container.life"

// IDs of the life of a container with this id: 32 and 16 hexadecimal digits. ok is false
// for what is no container's id.
func IDs(container string) (trace, span string, ok bool) {
	raw, err := hex.DecodeString(container)
	if err != nil || len(raw) < 24 {
		return "", "", false
	}
	return strings.ToLower(container[:32]), strings.ToLower(container[32:48]), true
}

// Of draws the life of c, a container of s.Pod; until now when it goes on. ok is false
// for one that never executed its program, whose story its calls tell.
func Of(s history.Subject, c why.Container, now time.Time) (t *waterfall.Trace, ok bool) {
	trace, span, ok := IDs(c.ID)
	if !ok || c.Started.IsZero() {
		return nil, false
	}
	life := waterfall.Span{ID: span, Name: Name, Service: "vitrined", Start: c.Started.UnixNano(), End: c.Finished.UnixNano(), Attributes: identity(s, c)}
	if c.Exit == nil {
		life.End, life.Unfinished = now.UnixNano(), true
	}
	life.End = max(life.End, life.Start)
	life.Links = links(c)
	life.Events = befell(c, life)
	if x := c.Exit; x != nil {
		ended(&life, c, *x)
	}
	return &waterfall.Trace{ID: trace, Spans: []waterfall.Span{life}}, true
}

// identity is what every span about a container carries.
func identity(s history.Subject, c why.Container) map[string]any {
	m := map[string]any{"k8s.container.restart_count": int64(c.Attempt)}
	for key, value := range map[string]string{
		"k8s.namespace.name": s.Namespace, "k8s.pod.name": s.Pod, "k8s.pod.uid": s.UID, "vitrine.sandbox.id": s.Sandbox,
		"container.id": c.ID, "k8s.container.name": c.Name, "container.image.name": c.Image, "vitrine.runtime.handler": c.Life.Handler,
	} {
		if value != "" {
			m[key] = value
		}
	}
	f := c.Figures
	for key, value := range map[string]int64{
		"vitrine.memory.peak_bytes": clamp(f.MemoryPeak), "vitrine.log.bytes": c.LogBytes, "vitrine.exec.count": int64(f.Execs.Count),
	} {
		if value > 0 {
			m[key] = value
		}
	}
	if f.CPU > 0 {
		m["vitrine.cpu.time_seconds"] = f.CPU.Seconds()
	}
	return m
}

// links lead to what the life followed from, in this order: the requests that made and
// started it, the attempt before it, the request that it end.
func links(c why.Container) (all []waterfall.Link) {
	request := func(kind, traceparent string) {
		// version-trace-span-flags, W3C Trace Context
		if parts := strings.Split(traceparent, "-"); len(parts) == 4 && len(parts[1]) == 32 && len(parts[2]) == 16 {
			all = append(all, waterfall.Link{TraceID: parts[1], SpanID: parts[2], Kind: kind})
		}
	}
	request("create", c.Life.Created)
	request("start", c.Life.Started)
	if trace, span, ok := IDs(c.Life.Previous); ok {
		all = append(all, waterfall.Link{TraceID: trace, SpanID: span, Kind: "previous"})
	}
	if c.Life.Stop != nil {
		request("stop", c.Life.Stop.Traceparent)
	}
	return all
}

// befell are the events within the life, in the order of time. What is only counted is
// told at its end.
func befell(c why.Container, life waterfall.Span) (all []waterfall.Event) {
	at := func(t time.Time, name string, attributes map[string]any) {
		when := min(max(t.UnixNano(), life.Start), life.End)
		for key, value := range attributes {
			if value == "" || value == int64(0) {
				delete(attributes, key)
			}
		}
		all = append(all, waterfall.Event{Name: name, Time: when, Attributes: attributes})
	}
	end := time.Unix(0, life.End)
	for _, k := range c.Life.Kills {
		at(k.At, "container.oom", map[string]any{
			"vitrine.oom.victim": k.Victim.Command, "vitrine.oom.victim_pid": int64(k.Victim.ContainerPID), "vitrine.oom.init": k.Init, "vitrine.oom.exec": k.Exec,
			"vitrine.oom.level": k.Level, "vitrine.oom.limit_bytes": clamp(k.Limit), "vitrine.oom.usage_bytes": clamp(k.Usage), "vitrine.message": k.Message})
	}
	if told := uint64(len(c.Life.Kills)); c.Life.AllKills > told {
		at(end, "container.oom.more", map[string]any{"vitrine.count": clamp(c.Life.AllKills - told)})
	}
	for _, d := range c.Denials {
		at(d.First, "container.denied", map[string]any{
			"vitrine.denial.layer": d.Layer, "vitrine.denial.syscall": d.Syscall, "vitrine.denial.capability": d.Capability,
			"vitrine.count": clamp(d.Count), "vitrine.message": d.What})
	}
	if told := len(c.Denials); c.AllDenials > told {
		at(end, "container.denied.more", map[string]any{"vitrine.count": int64(c.AllDenials - told)})
	}
	if s := c.Life.Stop; s != nil {
		at(s.At, "container.stop", map[string]any{"vitrine.stop.signal": s.Signal, "vitrine.stop.grace_seconds": s.Grace.Seconds()})
		if !s.KilledAt.IsZero() {
			at(s.KilledAt, "container.grace_over", nil)
		}
	}
	for _, s := range why.Stalls(c.Figures, life.Duration()) {
		attributes := map[string]any{"vitrine.stall.cause": s.Cause, "vitrine.count": clamp(s.Events), "vitrine.message": s.Text}
		if s.Time > 0 {
			attributes["vitrine.stall.time_seconds"] = s.Time.Seconds()
		}
		at(end, "container.stalled", attributes)
	}
	if n := c.Figures.ThreadFailures; n > 0 {
		at(end, "container.pids_refused", map[string]any{"vitrine.count": clamp(n)})
	}
	if c.LogDropped > 0 {
		at(end, "container.log_lost", map[string]any{"vitrine.log.dropped_bytes": c.LogDropped})
	}
	if x := c.Figures.Execs; x.Failed > 0 || x.Timeouts > 0 || x.NonZero > 0 {
		at(x.Last, "container.exec_failed", map[string]any{"vitrine.exec.count": int64(x.Count), "vitrine.exec.failed": int64(x.Failed),
			"vitrine.exec.timeouts": int64(x.Timeouts), "vitrine.exec.nonzero": int64(x.NonZero)})
	}
	slices.SortStableFunc(all, func(a, b waterfall.Event) int { return cmp.Compare(a.Time, b.Time) })
	return all
}

// ended adds how it ended. An end that was asked for, or with 0, is no error.
func ended(life *waterfall.Span, c why.Container, x pod.Exit) {
	class := Reason(x)
	life.Attributes["vitrine.exit.reason"] = class
	if x.Code >= 0 { // else it is not known
		life.Attributes["process.exit.code"] = int64(x.Code)
	}
	if x.Signal != 0 {
		life.Attributes["vitrine.exit.signal"] = int64(x.Signal)
	}
	if s := x.Sender; s != nil {
		life.Attributes["vitrine.exit.sender"] = s.From
	}
	stopped := c.Stopped && (x.Signal != 0 || x.Code > 128) && class != "oom" && class != "seccomp"
	if class == "completed" || stopped {
		return
	}
	life.Error, life.Status = true, cmp.Or(x.Message, x.Reason)
	life.Attributes["error.type"] = class
}

// Reason is the class of an end, one of a few words: completed, error, oom, signal,
// seccomp, starterror, monitorlost, unknown.
func Reason(x pod.Exit) string {
	switch {
	case x.Reason == "OOMKilled":
		return "oom"
	case x.Reason == "StartError":
		return "starterror"
	case x.Reason == "MonitorLost":
		return "monitorlost"
	case x.Source == "unknown" || x.Source == "":
		return "unknown"
	case x.Signal == int(syscall.SIGSYS) || x.Reason == pod.SeccompKilled:
		return "seccomp"
	case x.Signal != 0:
		return "signal"
	case x.Code == 0:
		return "completed"
	}
	return "error"
}

// clamp brings a count of the kernel's into what attributes hold.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
