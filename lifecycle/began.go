package lifecycle

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// A container's start does not end with StartContainer: its program listens, is connected
// to and accepts later. The kernel's programs tell of each moment; here it comes on the
// container's record and, as a span under StartContainer, into its trace.

// began is the beginning of a start's record, read when the execve is confirmed.
func (m *Manager) began(ctx context.Context, c pod.Container, asked time.Time, traceparent string) *pod.Start {
	if !m.watched.has(c.Evidence.Cgroup) {
		return nil
	}
	return m.startOf(ctx, c, pod.Start{Asked: asked, Traceparent: traceparent})
}

// startOf is how far the start has come by now; nil if nothing has been executed, or where
// that is not observed.
func (m *Manager) startOf(ctx context.Context, c pod.Container, known pod.Start) *pod.Start {
	s, err := m.witness.StartProfile(c.Evidence.Cgroup)
	warn(ctx, "read how a container started", err, "container", c.ID)
	if err != nil || s.Exec == 0 {
		return nil
	}
	now, boot := time.Now(), sinceBoot()
	next := oom.Began(s, now, boot)
	next.Traceparent, next.Asked, next.Accept = known.Traceparent, known.Asked, known.Accept
	if w := m.watches.get(c.Evidence.Cgroup, byStart); w != nil && next.Accept.IsZero() {
		at, err := w.Accepted()
		warn(ctx, "read when a container accepted", err, "container", c.ID)
		if at != 0 {
			next.Accept = now.Add(at - boot)
		}
	}
	return &next
}

// followStarts takes in how containers come further, until the daemon ends.
func (m *Manager) followStarts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.starts.wake:
		}
		further := m.starts.take()
		for _, e := range m.index.allContainers() {
			if c := e.value.Load(); further[c.Evidence.Cgroup] {
				m.takeStart(telemetry.WithTraceparent(ctx, c.Traceparent), e)
			}
		}
	}
}

// takeStart puts the moments that have come on the container's record and tells them. What
// comes before the record of the start is taken in with that. The watch for the first
// accept has then served.
func (m *Manager) takeStart(ctx context.Context, e *containerEntry) {
	m.starts.one.Lock()
	defer m.starts.one.Unlock()
	c := *e.value.Load()
	before := c.Evidence.Start
	if before == nil || !m.watched.has(c.Evidence.Cgroup) {
		return
	}
	now := m.startOf(ctx, c, *before)
	if now == nil {
		return
	}
	now.Cloned, now.Exec = before.Cloned, before.Exec // two clocks give them to some microseconds
	if !before.Listen.IsZero() {
		now.Listen = before.Listen
	}
	if !before.Connection.IsZero() {
		now.Connection = before.Connection
	}
	if *now == *before {
		return
	}
	m.amend(ctx, e, "record how a container started", func(next *pod.Container) { next.Evidence.Start = now })
	m.tellStart(ctx, c, *before, *now)
	if !now.Accept.IsZero() {
		warn(ctx, "end the watch of a container's first accept", m.watches.end(c.Evidence.Cgroup, byStart), "container", c.ID)
	}
}

// tellStart opens and closes a span for each moment that now has and before has not.
func (m *Manager) tellStart(ctx context.Context, c pod.Container, before, now pod.Start) {
	owner, err := m.index.sandbox(string(c.SandboxID))
	if err != nil {
		return
	}
	ctx = telemetry.WithTraceparent(ctx, now.Traceparent)
	identity := telemetry.ContainerAttributes(*owner.value.Load(), c)
	tell := func(name string, was, from, to time.Time, attrs ...attribute.KeyValue) {
		if was.IsZero() && !to.IsZero() && !from.IsZero() {
			telemetry.Past(ctx, name, from, to, append(attrs, identity...)...)
		}
	}
	use := func(u pod.StartUse) []attribute.KeyValue {
		return []attribute.KeyValue{telemetry.KeyMinorFaults.Int64(int64(u.MinorFaults)), telemetry.KeyMajorFaults.Int64(int64(u.MajorFaults)),
			telemetry.KeyReadBytes.Int64(int64(u.ReadBytes))}
	}
	port := telemetry.KeyPort.Int(now.Port)
	tell("ebpf.first_exec", before.Exec, now.Asked, now.Exec, use(now.AtExec)...)
	tell("ebpf.first_listen", before.Listen, now.Exec, now.Listen, append(use(now.AtListen), port)...)
	tell("ebpf.first_connection", before.Connection, now.Listen, now.Connection, port)
	tell("ebpf.first_accept", before.Accept, now.Exec, now.Accept)
}
