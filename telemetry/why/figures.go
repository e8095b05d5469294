package why

import (
	"fmt"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// figures reads what was counted of containers: throttling, stalls, limits, logs.
func figures(e *Evidence) []Fact {
	var facts []Fact
	for _, c := range e.Containers {
		add := func(source, cause string, weight float64, format string, args ...any) {
			if weight > 0 {
				facts = append(facts, Fact{Time: c.Finished, Source: source, Container: c.Name, Cause: cause, Weight: weight, Text: fmt.Sprintf(format, args...)})
			}
		}
		f := c.Figures
		life := c.life(e.Now)
		for _, s := range Stalls(f, life) {
			add("cgroup", s.Cause, s.Weight, "%s %s", c.Name, s.Text)
		}
		if f.ThreadFailures > 0 {
			add("cgroup", "pids.limit", 0.75, "%s could not fork %d times: a limit of tasks was reached", c.Name, f.ThreadFailures)
		}
		if f.ThreadLimit > 0 && f.Threads*10 >= f.ThreadLimit*9 {
			add("cgroup", "pids.limit", 0.6, "%s has %d tasks of the %d it may have", c.Name, f.Threads, f.ThreadLimit)
		}
		if c.Exit == nil && f.OOMKills > 0 {
			add("cgroup", "oom.child", 0.75, "%d processes in %s were killed by the OOM killer; PID 1 goes on", f.OOMKills, c.Name)
		}
		if c.LogDropped > 0 {
			add("log", "log.lost", 0.7, "%s of the log of %s could not be written and are lost (%s were written)", bytes(float64(c.LogDropped)), c.Name, bytes(float64(c.LogBytes)))
		}
		if c.LogBytes >= floodBytes && life > 0 {
			rate := float64(c.LogBytes) / max(life.Seconds(), 0.001)
			add("log", "log.flood", ramp(rate, 2<<20, 32<<20, 0.25, 0.5), "%s wrote %s of log in %s, %s/s", c.Name, bytes(float64(c.LogBytes)), waterfall.Duration(life), bytes(rate))
		}
	}
	return facts
}

// floodBytes of log are many, whatever the rate.
const floodBytes = 16 << 20

// life is how long a container has run, or ran.
func (c Container) life(now time.Time) time.Duration {
	switch {
	case c.Started.IsZero(), c.Lost:
		return 0
	case c.Exit != nil:
		return c.Finished.Sub(c.Started)
	}
	return now.Sub(c.Started)
}

// ramp is 0 below from, lo at from, hi at to and above.
func ramp(x, from, to, lo, hi float64) float64 {
	if x < from {
		return 0
	}
	return lo + (hi-lo)*min(1, (x-from)/(to-from))
}

// remote says on whom a process waits in a kernel function; empty: that is not known.
func remote(wait string) string {
	for _, r := range []struct{ prefix, who string }{
		{"request_wait_answer", "the daemon of a FUSE file system"}, {"fuse_", "the daemon of a FUSE file system"},
		{"rpc_", "an NFS server"}, {"nfs", "an NFS server"}, {"cifs_", "an SMB server"}, {"ceph_", "a Ceph cluster"}, {"p9_", "a 9p server"},
	} {
		if strings.HasPrefix(wait, r.prefix) {
			return r.who
		}
	}
	return ""
}

// manyZombies is from when on ended children say that PID 1 waits for none.
const manyZombies = 16

// processes reads in what state running containers' first processes are.
func processes(e *Evidence) []Fact {
	var facts []Fact
	for _, c := range e.Containers {
		if c.Lost || c.State != pod.Running && c.State != pod.Stopping {
			continue
		}
		add := func(cause string, weight float64, format string, args ...any) {
			facts = append(facts, Fact{Time: e.Now, Source: "process", Container: c.Name, Cause: cause, Weight: weight, Text: fmt.Sprintf(format, args...)})
		}
		pipe := c.Wait == "pipe_write" || c.Wait == "anon_pipe_write"
		switch {
		case c.Frozen != "":
			add("process.frozen", 0.9, "no process of %s goes on: %s is frozen", c.Name, c.Frozen)
		case pipe && c.Monitor == "T":
			add("log.blocked", 0.9, "%s waits to write its output, because its monitor is stopped (state T) and does not read the pipe", c.Name)
		case pipe:
			add("log.blocked", 0.6, "%s waits to write its output: the pipe is full", c.Name)
		case c.Process == "T" || c.Process == "t":
			add("process.stopped", 0.85, "PID 1 of %s is stopped (state %s)", c.Name, c.Process)
		case remote(c.Wait) != "":
			add("process.stuck", 0.7, "PID 1 of %s waits for %s, which does not answer (%s)", c.Name, remote(c.Wait), c.Wait)
		case c.Process == "D" && c.Wait != "":
			add("process.stuck", 0.7, "PID 1 of %s is in uninterruptible sleep in %s", c.Name, c.Wait)
		}
		if c.Zombies >= manyZombies {
			add("process.zombies", 0.4, "PID 1 of %s has not waited for %d children that have ended", c.Name, c.Zombies)
		}
		if c.LogGone {
			add("log.missing", 0.55, "the log of %s is gone: somebody removed %s, and what the container writes goes into a file without a name", c.Name, c.LogPath)
		}
		if c.Monitor == "T" && !pipe {
			weight := 0.6
			if c.State == pod.Stopping { // which nobody but the monitor sees through
				weight = 0.9
			}
			add("monitor.stopped", weight, "the monitor of %s is stopped (state T): nobody reads the container's output, ends it or sees its end", c.Name)
		}
	}
	return facts
}

// codeOf says of a command's exit code what it stands for, with a comma before it; empty
// where it stands for nothing but that the command said no.
func codeOf(code int32) string {
	switch code {
	case 126:
		return ", with 126: what shall be run may not be executed"
	case 127:
		return ", with 127: what shall be run is not in the image, or calls something that is not"
	case 137:
		return ", with 137: SIGKILL ended it, as the OOM killer does"
	}
	return ""
}

// commands reads what was run in containers, exec probes among it.
func commands(e *Evidence) []Fact {
	var facts []Fact
	for _, c := range e.Containers {
		x := c.Figures.Execs
		if x.Count == 0 {
			continue
		}
		f := Fact{Time: x.Last, Source: "exec", Container: c.Name}
		mean := x.Total / time.Duration(x.Count)
		switch {
		case c.hooked():
			f.Cause, f.Weight = "stop.hook", 0.6
			f.Text = fmt.Sprintf("the only command that was run in %s, right before its stop, did not end within %s; a preStop hook looks like this", c.Name, waterfall.Duration(x.Longest))
		case x.Timeouts > 0:
			f.Cause, f.Weight = "probe.timeout", 0.55+0.1*min(1, float64(x.Timeouts)/5)
			f.Text = fmt.Sprintf("%d of %d commands in %s, probes among them, did not end in time; the longest took %s", x.Timeouts, x.Count, c.Name, waterfall.Duration(x.Longest))
		case x.Failed > 0:
			f.Cause, f.Weight = "probe.failed", 0.45
			f.Text = fmt.Sprintf("%d of %d commands in %s, probes among them, could not be run", x.Failed, x.Count, c.Name)
		case x.Streak > 0:
			f.Cause, f.Weight = "probe.failed", 0.3+0.2*min(1, float64(x.Streak)/3)
			f.Text = fmt.Sprintf("%d of %d commands in %s, probes among them, ended with another code than 0, the last %d of them one after the other%s", x.NonZero, x.Count, c.Name, x.Streak, codeOf(x.Code))
		case x.NonZero*2 >= x.Count:
			f.Cause, f.Weight = "probe.failed", 0.2
			f.Text = fmt.Sprintf("%d of %d commands in %s, probes among them, ended with another code than 0; the last did not", x.NonZero, x.Count, c.Name)
		case mean >= slow:
			f.Cause, f.Weight = "probe.slow", 0.3
			f.Text = fmt.Sprintf("%d commands in %s, probes among them, took %s each, the longest %s", x.Count, c.Name, waterfall.Duration(mean), waterfall.Duration(x.Longest))
		default:
			continue
		}
		facts = append(facts, f)
	}
	return facts
}
