package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// exits reads how containers ended. Earlier attempts of one that has run again since
// say less than the last.
func exits(e *Evidence) []Fact {
	newest := map[string]uint32{}
	for _, c := range e.Containers {
		newest[c.Name] = max(newest[c.Name], c.Attempt)
	}
	var facts []Fact
	for _, c := range e.Containers {
		if c.Exit == nil {
			continue
		}
		f := c.end(grace(e, c), c.alike(e))
		f.Time, f.Source, f.Container = c.Finished, "exit", c.Name
		if c.Attempt < newest[c.Name] {
			f.Weight *= 0.5
			f.Text += fmt.Sprintf(" (attempt %d)", c.Attempt)
		}
		out, ok := c.lastWords()
		if ok && f.Cause == "exit.code" && out.Cause == f.Cause {
			f.sentence = fmt.Sprintf("%s; it wrote last: %q", f.Text, out.quoted)
		}
		facts = append(facts, f)
		facts = append(facts, c.flight(f)...)
		if ok {
			facts = append(facts, out.Fact)
		}
		if again, ok := c.restarted(e); ok {
			facts = append(facts, again)
		}
	}
	return facts
}

// Of a flight recorder the last calls are shown, and before them the last that failed.
const lastCalls = 3

// flight shows what a container called last, as evidence of how it ended. It says how, not
// why, so it adds nothing to the weight.
func (c Container) flight(end Fact) (facts []Fact) {
	from := max(0, len(c.Calls)-lastCalls)
	for i, call := range c.Calls {
		failed := i < from && call.Error != "" && !slices.ContainsFunc(c.Calls[i+1:from], func(later pod.Call) bool { return later.Error != "" })
		if i < from && !failed {
			continue
		}
		what := "called last"
		if failed {
			what = "had failed in"
		}
		facts = append(facts, Fact{Time: call.At, Source: "flight", Container: c.Name, Cause: end.Cause,
			Text: fmt.Sprintf("%s (%s, thread %d) %s: %s", c.Name, call.Command, call.TID, what, call)})
	}
	return facts
}

// graceTold is how long after the begin of a stop an end counts as after its grace.
const graceTold = 900 * time.Millisecond

// grace is how long a container had been given to end when it did; zero when it was
// killed at once, with its pod or because it was removed.
func grace(e *Evidence, c Container) time.Duration {
	for _, call := range gather(e) {
		start := time.Unix(0, call.root.Start)
		if call.method == "StopContainer" && call.container == c.Name && !c.Finished.Before(start) && c.Finished.UnixNano() <= call.root.End+int64(time.Second) {
			if had := c.Finished.Sub(start); had >= graceTold {
				return had
			}
		}
	}
	return 0
}

// alike counts the attempts of a container, this one included, that ended by themselves
// with the same status one after the other.
func (c Container) alike(e *Evidence) (n int) {
	for _, other := range e.Containers { // the oldest first
		switch {
		case other.Name != c.Name || other.Exit == nil || other.Attempt > c.Attempt:
		case !other.Stopped && other.Exit.Code == c.Exit.Code && other.Exit.Reason == c.Exit.Reason:
			n++
		default:
			n = 0
		}
	}
	return n
}

// end is the fact of one container's end; alike are the attempts that ended so.
func (c Container) end(grace time.Duration, alike int) Fact {
	x := c.Exit
	lived := ""
	if !c.Started.IsZero() {
		lived = " after " + waterfall.Duration(c.Finished.Sub(c.Started))
	}
	signal := syscall.Signal(x.Signal)
	message := x.Message
	if message != "" {
		message = ": " + message
	}
	if alike > 1 {
		lived += fmt.Sprintf(", %d times one after the other", alike)
	}
	fact := func(cause string, weight float64, format string, args ...any) Fact {
		return Fact{Cause: cause, Weight: weight, Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case x.Reason == "OOMKilled":
		if message == "" {
			message = ": a memory limit was reached"
			if l := c.Figures.MemoryLimit; l > 0 {
				message += fmt.Sprintf(" (the container's own is %s)", bytes(float64(l)))
			}
		}
		if files := c.Figures.MemoryFiles; files >= max(c.Figures.MemoryLimit/4, 1<<20) && !strings.Contains(message, "tmpfs") {
			message += fmt.Sprintf("; %s of its memory are files (tmpfs, shared memory, volumes of medium Memory)", bytes(float64(files)))
		}
		return fact("oom.killed", 0.97, "%s was killed by the kernel's OOM killer%s%s", c.Name, lived, message)
	case x.Reason == "StartError":
		name, words := classify("monitor.start", "", x.Message)
		f := fact(name, 0.92, "%s could not be started: %s", c.Name, x.Message)
		f.sentence = fmt.Sprintf("%s could not be started: %s (%s)", c.Name, words, x.Message)
		return f
	case x.Reason == "MonitorLost":
		return fact("monitor.lost", 0.9, "the monitor of %s ended without an exit record%s%s", c.Name, lived, message)
	case signal == syscall.SIGSYS:
		return fact("seccomp.denied", 0.95, "%s was killed by SIGSYS%s: it made a system call that its seccomp profile forbids%s", c.Name, lived, message)
	case strings.Contains(x.Message, "OOM-killed") || c.Figures.OOMKills > 0:
		return fact("oom.child", 0.88, "%s ended with %d%s, and %d of its processes were killed by the OOM killer%s", c.Name, x.Code, lived, max(c.Figures.OOMKills, 1), message)
	case c.Stopped && c.hooked():
		return fact("stop.hook", 0.3, "%s was stopped%s after a command in it, its preStop hook by all appearance, had not ended in time", c.Name, lived)
	case c.Stopped && c.probed() > 0:
		cause := "probe.failed"
		if c.Figures.Execs.Timeouts > 0 {
			cause = "probe.timeout"
		}
		return fact(cause, 0.3, "%s was stopped%s after %d commands in it, probes among them, had failed", c.Name, lived, c.probed())
	case signal == syscall.SIGKILL && c.Stopped && grace > 0:
		f := fact("stop.killed", 0.5, "%s did not end on its stop signal and was killed %s later, when the grace period was over%s", c.Name, waterfall.Duration(grace), message)
		if c.Life.Stop != nil && c.Life.Stop.Unheard == pod.Unhandled {
			f.next = "let PID 1 take the signal: exec the program on the entrypoint's last line, handle the signal in it, or put an init such as tini before it"
		}
		return f
	case c.Stopped && (signal != 0 || x.Code != 0 && x.Code >= 128):
		return fact("stopped", 0.12, "%s was asked to stop and ended with %d%s", c.Name, x.Code, message)
	case signal == syscall.SIGKILL && x.Sender != nil && x.Sender.From == pod.FromKernel:
		return fact("killed.kernel", 0.9, "%s was ended by SIGKILL%s from the kernel itself, after %s of CPU time, and no memory limit was reached%s", c.Name, lived, waterfall.Duration(x.UserTime+x.SystemTime), message)
	case signal == syscall.SIGBUS && c.Figures.Full != "":
		return fact("process.disk", 0.9, "%s crashed with SIGBUS%s, as who writes through memory to a file without room does: %s%s", c.Name, lived, c.Figures.Full, message)
	case signal == syscall.SIGKILL || signal == syscall.SIGTERM || signal == syscall.SIGINT || signal == syscall.SIGHUP || signal == syscall.SIGQUIT:
		return fact("killed.outside", 0.9, "%s was ended by %s%s that the runtime did not send, and no memory limit was reached%s", c.Name, signalName(signal), lived, message)
	case limitOf[signal].cause != "":
		return fact(limitOf[signal].cause, 0.9, "%s was ended by %s%s: %s%s", c.Name, signalName(signal), lived, limitOf[signal].words, message)
	case signal != 0:
		core := ""
		if x.CoreDumped {
			core = ", with a core dump"
		}
		f := fact("crash.signal", 0.9, "%s crashed with %s%s%s%s", c.Name, signalName(signal), lived, core, message)
		f.next = crashes[signal]
		return f
	case x.Code == 127:
		return fact("process.missing", 0.5, "%s exited with 127%s: a shell or the loader did not find a program or a library%s", c.Name, lived, message)
	case x.Code == 126:
		return fact("process.denied", 0.5, "%s exited with 126%s: a shell could not execute a program%s", c.Name, lived, message)
	case limitOf[syscall.Signal(x.Code-128)].cause != "":
		l := limitOf[syscall.Signal(x.Code-128)]
		return fact(l.cause, 0.6, "%s exited with %d%s, as a shell does of which a child was ended by %s: %s%s", c.Name, x.Code, lived, signalName(syscall.Signal(x.Code-128)), l.words, message)
	case x.Code > 128 && signalNames[syscall.Signal(x.Code-128)] != "":
		return fact("exit.signal", 0.57, "%s exited with %d%s, which is how programs say that %s ended them or a child of theirs%s", c.Name, x.Code, lived, signalNames[syscall.Signal(x.Code-128)], message)
	case x.Code != 0:
		return fact("exit.code", 0.55, "%s exited with %d by itself%s%s", c.Name, x.Code, lived, message)
	}
	if alike > 1 { // whoever starts it again expects it to go on
		return fact("exit.restarted", min(0.6, 0.2+0.1*float64(alike)), "%s exited with 0%s: it was done, and was started again", c.Name, lived)
	}
	return fact("completed", 0.1, "%s exited with 0%s", c.Name, lived)
}

// probed counts the commands that may be why kubelet stopped a container: those that
// could not be run or took too long, and the last ones that said no.
func (c Container) probed() int {
	x := c.Figures.Execs
	if x.Streak > 0 && x.NonZero > 0 {
		return max(x.Streak, x.Failed)
	}
	return x.Failed
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGKILL: "SIGKILL", syscall.SIGTERM: "SIGTERM", syscall.SIGSEGV: "SIGSEGV", syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS",
	syscall.SIGFPE: "SIGFPE", syscall.SIGILL: "SIGILL", syscall.SIGINT: "SIGINT", syscall.SIGHUP: "SIGHUP", syscall.SIGQUIT: "SIGQUIT",
	syscall.SIGPIPE: "SIGPIPE", syscall.SIGTRAP: "SIGTRAP", syscall.SIGXCPU: "SIGXCPU", syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGALRM: "SIGALRM",
	syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2",
}

func signalName(s syscall.Signal) string {
	if name, ok := signalNames[s]; ok {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// limitOf says which limit the kernel enforces by a signal (setrlimit(2)).
var limitOf = map[syscall.Signal]struct{ cause, words string }{
	syscall.SIGXCPU: {"process.cputime", "a process had used the processor time that it may have (ulimit -t)"},
	syscall.SIGXFSZ: {"process.filesize", "a file would have become larger than it may (ulimit -f)"},
}

// crashes are next steps by signal, where it says more than that there is a bug.
var crashes = map[syscall.Signal]string{
	syscall.SIGILL:  "the program holds an instruction that this node's processor does not have: build it for an older one (-march), or choose the node by its CPU's features",
	syscall.SIGBUS:  "it touched memory behind which there is nothing: a file that was cut short meanwhile, a full disk or /dev/shm under it, or a failure of the machine's memory (dmesg)",
	syscall.SIGABRT: "it gave up by itself (abort): read the assertion in its last words",
	syscall.SIGPIPE: "it wrote to a pipe or connection whose other end had gone, and does not handle that",
}

// restarted: the container alone was stopped, and runs again in the same pod. Who wants it
// gone stops the pod.
func (c Container) restarted(e *Evidence) (Fact, bool) {
	if !c.Stopped || c.probed() > 0 || c.hooked() {
		return Fact{}, false
	}
	next := slices.IndexFunc(e.Containers, func(other Container) bool { return other.Name == c.Name && other.Attempt == c.Attempt+1 })
	if next < 0 {
		return Fact{}, false
	}
	alone := false
	for _, call := range gather(e) {
		at := time.Unix(0, call.root.Start)
		switch {
		case call.method == "StopPodSandbox" && at.After(c.Started) && at.Before(e.Containers[next].Created):
			return Fact{}, false
		case call.method == "StopContainer" && call.container == c.Name && at.After(c.Started) && !at.After(c.Finished):
			alone = true
		}
	}
	return Fact{Time: c.Finished, Source: "exit", Container: c.Name, Cause: "stop.restarted", Weight: 0.65,
		Text: fmt.Sprintf("%s was stopped by StopContainer after %s and started again as attempt %d, while its pod went on: kubelet does that when a liveness or startup probe fails, or when the container's specification was changed", c.Name, waterfall.Duration(c.Finished.Sub(c.Started)), c.Attempt+1)}, alone
}

// hooked: one command alone was run in the container, did not end in time, and the stop
// followed: so a preStop hook looks, and hardly a probe.
func (c Container) hooked() bool {
	x, stop := c.Figures.Execs, c.Life.Stop
	if x.Count != 1 || x.Timeouts != 1 || stop == nil {
		return false
	}
	between := stop.At.Sub(x.Last)
	return between > -time.Second && between < soon
}

// words are what a container wrote last.
type words struct {
	Fact
	quoted string
}

var (
	// complaint is a line that says of something that it went wrong, in words of its own.
	complaint = regexp.MustCompile(`(?i)\b(fatal|error|panic|exception|fail(ed|ure|s)?|cannot|can't|could not|unable|invalid|missing|required|undefined|unknown|no)\b|(Error|Exception)\b`)
	// goesOn is a line of a program that has not given up yet.
	goesOn = regexp.MustCompile(`(?i)\b(retrying|will retry|retry in|(try|trying) again|reconnecting|backing off|next attempt)\b`)
)

// lastWords looks for a cause in what a container wrote before it ended by itself
// with an error. The last line that complains decides; before one that fits no class, only
// what began the end counts: a panic.
func (c Container) lastWords() (words, bool) {
	text := strings.TrimSpace(c.Figures.Output)
	if text == "" || c.Exit.Code == 0 || c.Exit.Reason == "StartError" {
		return words{}, false
	}
	lines := strings.Split(text, "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	f := words{Fact{Time: c.Finished.Add(-time.Microsecond), Source: "log", Container: c.Name, Cause: "exit.code", Weight: 0.2}, last}
	if c.Exit.Signal != 0 {
		f.Text = fmt.Sprintf("the last words of %s: %q", c.Name, last)
		return f, c.Exit.Signal == int(syscall.SIGABRT)
	}
	complained := false
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(lines[i])
		if goesOn.MatchString(line) && i < len(lines)-1 {
			continue
		}
		for _, class := range classes {
			if class.class == "invalid" || class.class == "digest" || complained && class.class != "panic" || !class.pattern.MatchString(line) {
				continue
			}
			f.Cause, f.Weight = "process."+class.class, 0.65
			if complained { // the panic's own words stand after its trace
				line = f.quoted
			}
			f.quoted = line
			f.Text = fmt.Sprintf("%s wrote: %q", c.Name, line)
			f.sentence = fmt.Sprintf("%s exited with %d: %s; it wrote %q", c.Name, c.Exit.Code, class.words, line)
			if class.class == "denied" && c.Figures.Refused != "" {
				f.Cause, f.Weight = "device.denied", 0.75
				f.sentence = fmt.Sprintf("%s exited with %d; it wrote %q; %s", c.Name, c.Exit.Code, line, c.Figures.Refused)
				f.Text += "; " + c.Figures.Refused
			}
			if class.class == "disk" && c.Figures.Full != "" {
				f.Text += "; " + c.Figures.Full
				f.sentence += "; " + c.Figures.Full
			}
			return f, true
		}
		if !complained && complaint.MatchString(line) {
			complained, f.quoted = true, line
		}
	}
	f.Text = fmt.Sprintf("the last words of %s: %q", c.Name, f.quoted)
	return f, true
}
