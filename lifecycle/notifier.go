package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		return slices.ContainsFunc(asked, func(a denial.Line) bool {
			return l.Layer == a.Layer && l.Signal == 0 && l.Syscall == a.Syscall && l.Foreign == a.Foreign
		})
	})
	lines = append(lines, asked...)
	slices.SortStableFunc(lines, func(a, b denial.Line) int { return int(a.First - b.First) })
	return lines
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

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
