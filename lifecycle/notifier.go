package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/pod"
)

// notifier is what the annotations want of system calls that the profile refuses.
func (m *Manager) notifier(sb pod.Sandbox, c pod.Container) (uint8, error) {
	mode, err := spec.Notifier(m.config.Annotations, c.Config.GetMetadata().GetName(), sb.Config.GetAnnotations(), c.Config.GetAnnotations())
	return map[string]uint8{spec.NotifierLog: wire.NotifyLog, spec.NotifierKill: wire.NotifyKill}[mode], err
}

// askMonitor has the container's filter ask the monitor, where that was wanted.
func (p *plan) askMonitor() error {
	if p.notify == wire.NotifyNone {
		return nil
	}
	_, err := spec.Notify(p.spec.Linux.Seccomp, denial.Syscalls(), filepath.Join(p.manager.store.ContainerDir(p.container.ID), wire.NotifyFile))
	return err
}

// notified is what the container's monitor was asked, as lines of its ledger.
func (m *Manager) notified(ctx context.Context, c pod.Container, now time.Time, boot time.Duration) (lines []denial.Line, lost uint64) {
	calls, lost, err := client.ReadNotified(m.store.ContainerDir(c.ID))
	warn(ctx, "read what a container's seccomp filter asked", ignoreMissing(err), "container", c.ID)
	for _, call := range calls {
		lines = append(lines, denial.Asked(call.Number, call.Arch, call.Count, boot-now.Sub(call.First), boot-now.Sub(call.Last), call.PID, call.Command))
	}
	return lines, lost
}

// withNotified is the kernel's ledger with what the monitor was asked. A call that both
// know stands in it once, with the monitor's count, which is exact.
func withNotified(lines, asked []denial.Line) []denial.Line {
	lines = slices.DeleteFunc(slices.Clone(lines), func(l denial.Line) bool {
		return slices.ContainsFunc(asked, func(a denial.Line) bool { return sameCall(l, a) })
	})
	lines = append(lines, asked...)
	slices.SortStableFunc(lines, func(a, b denial.Line) int { return int(a.First - b.First) })
	return lines
}

// askedTotal counts the system calls that monitors were asked about, over all containers
// of this daemon's life, without those that the kernel's programs have counted too.
type askedTotal struct {
	mu    sync.Mutex // guards the rest
	total uint64
	of    map[pod.ID]askedOf
}

// askedOf is what one container has added. seen is the most that the kernel has counted of
// its calls: it forgets them with the container's end.
type askedOf struct{ seen, added uint64 }

// note is called with what is known of a container now: both figures only grow.
func (a *askedTotal) note(id pod.ID, asked, seen uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[pod.ID]askedOf{}
	}
	o := a.of[id]
	o.seen = max(o.seen, seen)
	if asked > o.seen && asked-o.seen > o.added { // the two were not read at the same moment
		a.total += asked - o.seen - o.added
		o.added = asked - o.seen
	}
	a.of[id] = o
}

func (a *askedTotal) known(id pod.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.of[id]
	return known
}

// forget leaves in the total what the container has added.
func (a *askedTotal) forget(id pod.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, id)
}

// Asked is how many system calls containers' monitors have refused because a seccomp
// filter asked them, without those that the kernel's programs count. It grows.
func (m *Manager) Asked(ctx context.Context) uint64 {
	for _, e := range m.index.allContainers() {
		if c := e.value.Load(); c.State != pod.Creating && !m.asked.known(c.ID) { // of an earlier daemon's life, or not asked yet
			m.ledger(ctx, *c)
		}
	}
	m.asked.mu.Lock()
	defer m.asked.mu.Unlock()
	return m.asked.total
}

// noteAsked adds a container's lines to the total.
func (m *Manager) noteAsked(c pod.Container, asked, seen []denial.Line, lost uint64) {
	var calls, both uint64
	for _, a := range asked {
		calls += a.Count
		for _, l := range seen {
			if sameCall(l, a) {
				both += l.Count
			}
		}
	}
	m.asked.note(c.ID, calls+lost, both)
}

// killedForCalls says for what system calls a container was killed, empty for none.
func (m *Manager) killedForCalls(c pod.Container) string {
	calls, _, err := client.ReadNotified(m.store.ContainerDir(c.ID))
	if err != nil {
		return "" // told by takeDenials
	}
	var names []string
	for _, call := range calls {
		if call.Killed {
			l := denial.Asked(call.Number, call.Arch, call.Count, 0, 0, call.PID, call.Command)
			names = append(names, fmt.Sprintf("%s by %q", denial.Syscall(l), call.Command))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "killed for a system call that its seccomp profile refuses: " + strings.Join(names, ", ")
}

// sameCall: the kernel's line is of the call that the monitor was asked about.
func sameCall(seen, asked denial.Line) bool {
	return seen.Layer == asked.Layer && seen.Signal == 0 && seen.Syscall == asked.Syscall && seen.Foreign == asked.Foreign
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
