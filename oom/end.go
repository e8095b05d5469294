package oom

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Ending is what is known about a PID 1 that ended, besides OOM kills.
type Ending struct {
	// Signal is the number of the one that ended it, 0 if it exited with ExitCode.
	Signal     int
	ExitCode   int
	CoreDumped bool
	// At is when it ended.
	At time.Time
	// Observed: the signal program watched the container to its end, so Sent is its
	// last signal that ends a process. Sent is nil if there was none.
	Observed bool
	Sent     *Record
	// From and Name say where the sender was, as far as that needs a look around:
	// pod.FromContainer, FromOther, FromHost or FromRuntime.
	From, Name string
	// Stop is the request that the container end; nil without one.
	Stop *pod.Stop
}

// End says in one sentence why PID 1 ended, and who sent the signal. The sentence is ""
// where the exit code says all there is to say.
func End(e Ending) (message string, sender *pod.Sender) {
	sent := e.Sent
	if !e.Observed || sent == nil || sent.Signal == nil || e.Signal == 0 || int(sent.Signal.Number) != e.Signal {
		return unsent(e), nil
	}
	s := sent.Signal
	sender = &pod.Sender{From: cmp.Or(e.From, pod.FromHost), Name: e.Name, Culprit: culprit(s.Sender)}
	name := signalName(e.Signal)
	switch {
	case s.Number == unix.SIGSYS && s.Kernel:
		sender.From, sender.Syscall, sender.Address = pod.FromKernel, ebpf.SyscallName(s.Syscall), s.Address
		message = fmt.Sprintf("ended by %s: seccomp does not allow the system call %s", name, sender.Syscall)
	case s.Kernel && s.Number == unix.SIGKILL:
		sender.From = pod.FromKernel
		message = fmt.Sprintf("ended by SIGKILL from the kernel while %q (pid %d) ran: its pid namespace ended, its limit of processor time was reached (ulimit -t), or the kernel could not go on with it", s.Sender.Comm, s.Sender.TGID)
	case s.Kernel && s.Number == unix.SIGXCPU:
		sender.From = pod.FromKernel
		message = fmt.Sprintf("ended by SIGXCPU: %q had used the processor time that it may have (ulimit -t)", sent.Task.Comm)
	case s.Kernel:
		sender.From, sender.Address = pod.FromKernel, s.Address
		message = fmt.Sprintf("ended by %s: a fault at address %#x in %q", name, s.Address, sent.Task.Comm)
	case s.Number == unix.SIGXFSZ && s.Sender.TGID == sent.Task.TGID: // sent in its name (inode_newsize_ok, fs/attr.c)
		sender.From = pod.FromKernel
		message = fmt.Sprintf("ended by SIGXFSZ: %q would have made a file larger than it may (ulimit -f)", sent.Task.Comm)
	case s.Sender.TGID == sent.Task.TGID:
		sender.From = pod.FromSelf
		message = fmt.Sprintf("ended by %s, which it sent to itself", name)
	case e.From == pod.FromRuntime && e.Stop != nil:
		message = stopped(e)
	case e.From == pod.FromRuntime:
		message = fmt.Sprintf("ended by %s from the runtime itself", name)
	case e.From == pod.FromContainer:
		message = fmt.Sprintf("ended by %s from %q in the container (pid %d, uid %d)", name, s.Sender.Comm, s.Sender.ContainerPID, s.Sender.UID)
	case e.From == pod.FromOther:
		message = fmt.Sprintf("ended by %s from %q in %s (pid %d on the host, uid %d)", name, s.Sender.Comm, cmp.Or(e.Name, "another container"), s.Sender.TGID, s.Sender.UID)
	default:
		message = fmt.Sprintf("ended by %s from %q on the host (pid %d, uid %d)", name, s.Sender.Comm, s.Sender.TGID, s.Sender.UID)
		if e.Stop != nil {
			message += ", " + meanwhile(e)
		}
	}
	if e.CoreDumped {
		message += "; core dumped"
	}
	return message, sender
}

// unsent is for an end whose signal was not observed, or that was none.
func unsent(e Ending) string {
	switch {
	case e.Stop != nil:
		return stopped(e)
	case e.Signal != 0 && e.Observed:
		return fmt.Sprintf("ended by %s; its sender was not recorded", signalName(e.Signal))
	case e.Signal != 0:
		return fmt.Sprintf("ended by %s; who sent it was not observed", signalName(e.Signal))
	}
	return ""
}

// stopped is for an end on request. That SIGKILL was sent because the grace period was
// over is on record before it is sent.
func stopped(e Ending) string {
	if e.Signal != sigKill || e.Stop.KilledAt.IsZero() || e.At.Before(e.Stop.KilledAt) {
		end := fmt.Sprintf("exited with %d", e.ExitCode)
		if e.Signal != 0 {
			end = "ended by " + signalName(e.Signal)
		}
		s := fmt.Sprintf("%s %v after %s sent %s", end, round(max(e.At.Sub(e.Stop.At), 0)), asker(e.Stop), e.Stop.Signal)
		if e.Stop.KilledAt.IsZero() && e.Stop.Grace > 0 {
			s += fmt.Sprintf(", within the grace period of %v", e.Stop.Grace)
		}
		return s + trace(e.Stop)
	}
	if e.Stop.Grace <= 0 {
		return "killed on request, without a grace period" + trace(e.Stop)
	}
	return fmt.Sprintf("killed by StopContainer: the grace period of %v after %s expired%s%s", e.Stop.Grace, e.Stop.Signal, unheard(e.Stop), trace(e.Stop))
}

// unheard says why the stop signal made no difference; empty if that is not known.
func unheard(s *pod.Stop) string {
	switch s.Unheard {
	case pod.Unhandled:
		return ", for which PID 1 has no handler (the kernel then drops it)"
	case pod.Ignored:
		return ", which PID 1 ignores"
	case pod.Blocked:
		return ", which PID 1 blocks"
	}
	return ""
}

// asker is StopContainer if there was a grace period: removals and stops of a whole pod
// give none.
func asker(s *pod.Stop) string {
	if s.Grace > 0 {
		return "StopContainer"
	}
	return "a request to end"
}

// meanwhile tells of a request to stop that somebody else forestalled.
func meanwhile(e Ending) string {
	return fmt.Sprintf("while %s waited for the end (%v of %v)%s", asker(e.Stop), round(max(e.At.Sub(e.Stop.At), 0)), e.Stop.Grace, trace(e.Stop))
}

// trace names the request's trace, from a W3C traceparent.
func trace(s *pod.Stop) string {
	if parts := strings.Split(s.Traceparent, "-"); len(parts) == 4 {
		return " (trace " + parts[1] + ")"
	}
	return ""
}

func signalName(n int) string {
	return cmp.Or(unix.SignalName(unix.Signal(n)), fmt.Sprintf("signal %d", n))
}

// OfRuntime says whether a signal came from the runtime: from one of its processes, by
// pid, or from an earlier life of them, by name and from outside every container.
func OfRuntime(sent *Record, pids ...int) bool {
	if sent == nil || sent.Signal == nil || sent.Signal.Kernel {
		return false
	}
	from := sent.Signal.Sender
	for _, pid := range pids {
		if pid != 0 && from.TGID == pid {
			return true
		}
	}
	return from.Comm == "vitrine-monitor" || from.Comm == "vitrined"
}

// followsOOM says that PID 1 ended because it shared its memory with a victim: the OOM
// killer ends all processes that do, in one go, and marks one (__oom_kill_process,
// mm/oom_kill.c).
func followsOOM(kill *ebpf.Record, last Last) bool {
	s := last.InitSignal
	return s != nil && s.Signal != nil && s.Signal.Kernel && s.Signal.Number == unix.SIGKILL && s.Signal.Address == 0 &&
		!kill.Init && !kill.OOM.Dying && s.Signal.Sender.PID == kill.OOM.Trigger.PID &&
		s.Time >= kill.Time && s.Time-kill.Time < sharedWithin
}

// sharedWithin is how long after marking its victim the OOM killer is still at its work.
const sharedWithin = 100 * time.Millisecond
