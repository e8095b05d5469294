package lifecycle

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/refuser"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// followDenials reads ledgers that have grown, until the daemon ends.
func (m *Manager) followDenials(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.refused.wake:
		}
		grown := m.refused.take()
		for _, e := range m.index.allContainers() {
			if c := e.value.Load(); grown[c.Evidence.Cgroup] && c.State != pod.Creating {
				m.takeDenials(telemetry.WithTraceparent(ctx, c.Traceparent), e)
			}
		}
	}
}

// takeDenials puts the container's ledger on its record and publishes what is new in
// kind, once. It must come before untrack.
func (m *Manager) takeDenials(ctx context.Context, e *containerEntry) {
	m.refused.one.Lock()
	defer m.refused.one.Unlock()
	c := e.value.Load()
	ledger, lost := m.ledger(ctx, *c)
	if len(ledger) == 0 && lost == 0 {
		return
	}
	for range 3 { // the state may move between look and door
		var fresh []pod.Denial
		next, err := m.putContainer(e, e.value.Load().State, func(next *pod.Container) {
			fresh = unheard(next.Evidence.Denials, ledger)
			next.Evidence.Denials, next.Evidence.DenialsLost = ledger, lost
		})
		if errors.Is(err, pod.ErrState) {
			continue
		}
		warn(ctx, "record what a container was denied", err, "container", c.ID)
		for i := range fresh {
			m.publishDenial(next, fresh[i])
		}
		return
	}
}

// unheard are the denials that are the first of their kind and within the bound for
// events, in the order of time.
func unheard(known, now []pod.Denial) (fresh []pod.Denial) {
	kinds := 0
	for i, d := range now {
		if slices.ContainsFunc(now[:i], d.Alike) {
			continue
		}
		if kinds++; kinds > pod.MaxDenialEvents {
			return fresh
		}
		if !slices.ContainsFunc(known, d.Alike) {
			fresh = append(fresh, d)
		}
	}
	return fresh
}

// ledger reads what a container was denied, in the order of time and within the record's
// bound; lost counts what is beyond it, or found no place in the kernel.
func (m *Manager) ledger(ctx context.Context, c pod.Container) (ledger []pod.Denial, lost uint64) {
	now, boot := time.Now(), sinceBoot()
	asked, lost := m.notified(ctx, c, now, boot)
	var seen []denial.Line
	var more uint64
	if m.watched.has(c.Evidence.Cgroup) {
		var err error
		seen, more, err = m.witness.Denials(c.Evidence.Cgroup)
		warn(ctx, "read what a container was denied", err, "container", c.ID)
	}
	m.noteAsked(c, asked, seen, lost)
	lines := withNotified(seen, asked)
	lost += more
	for i, line := range lines {
		if i == pod.MaxDenials {
			lost += uint64(len(lines) - i)
			break
		}
		d := denial.Record(line, now, boot)
		refuser.TellApart(c, m.Specification, &d)
		ledger = append(ledger, d)
	}
	return ledger, lost
}

// Denials is what a container has been denied up to now, or up to its end; lost counts
// what is beyond pod.MaxDenials. A container that is not observed has none.
func (m *Manager) Denials(ctx context.Context, c pod.Container) (ledger []pod.Denial, lost uint64) {
	if ledger, lost = m.ledger(ctx, c); len(ledger) > 0 || lost > 0 {
		return ledger, lost
	}
	return c.Evidence.Denials, c.Evidence.DenialsLost
}

func (m *Manager) publishDenial(c pod.Container, d pod.Denial) {
	m.publish(pod.Event{Kind: pod.ContainerDenied, Container: &c, From: c.State, To: c.State, Denial: &d})
}

// RefusedDevice says that a path of the container is a device which none of its rules
// allows to be opened; empty: it is not, or that is not known.
func (m *Manager) RefusedDevice(c pod.Container, path string) string {
	return refuser.Device(c, m.Specification, path)
}
