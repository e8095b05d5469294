package why_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

var begin = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

func at(ms int64) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }

// step builds a span from milliseconds.
func step(id, parent, name string, from, to int64, change ...func(*waterfall.Span)) waterfall.Span {
	s := waterfall.Span{ID: id, ParentID: parent, Name: name, Start: at(from).UnixNano(), End: at(to).UnixNano(), Attributes: map[string]any{}}
	if parent == "" {
		s.Kind, s.Name = "server", "runtime.v1.RuntimeService/"+name
		s.Attributes["rpc.response.status_code"] = "OK"
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func failed(text, class string) func(*waterfall.Span) {
	return func(s *waterfall.Span) {
		s.Error, s.Status = true, text
		if s.Kind == "server" {
			s.Attributes["rpc.response.status_code"] = "UNKNOWN"
		}
		if class != "" {
			s.Attributes["error.type"] = class
		}
	}
}

func unfinished(s *waterfall.Span) {
	s.Unfinished = true
	delete(s.Attributes, "rpc.response.status_code")
}

func with(key, value string) func(*waterfall.Span) {
	return func(s *waterfall.Span) { s.Attributes[key] = value }
}

// flown adds what a flight recorder kept.
func flown(c why.Container) why.Container {
	call := func(ms int64, name, err string) pod.Call {
		result := int64(0)
		if err != "" {
			result = -2
		}
		return pod.Call{At: at(ms), TID: 7, Command: "app", Name: name, Arguments: []pod.Word{1, 0xff, 0}, Result: result, Error: err}
	}
	c.Calls = []pod.Call{call(4000, "openat", "EACCES"), call(4001, "openat", "ENOENT"), call(4002, "read", ""), call(4003, "close", ""), call(4004, "mmap", ""),
		{At: at(4005), TID: 8, Command: "app", Name: "futex", Unfinished: true}}
	return c
}

func trace(spans ...waterfall.Span) *waterfall.Trace { return &waterfall.Trace{ID: "t", Spans: spans} }

func ended(x pod.Exit, change ...func(*why.Container)) why.Container {
	c := why.Container{Name: "app", ID: "c1", State: pod.Exited, Created: at(0), Started: at(100), Finished: at(5100), Exit: &x}
	for _, f := range change {
		f(&c)
	}
	return c
}

func running(change ...func(*why.Container)) why.Container {
	c := why.Container{Name: "app", ID: "c1", State: pod.Running, Created: at(0), Started: at(100)}
	for _, f := range change {
		f(&c)
	}
	return c
}

// attempts are containers that ended one after the other in the same way.
func attempts(x pod.Exit, n int) (all []why.Container) {
	for i := range n {
		all = append(all, ended(x, func(c *why.Container) {
			c.ID, c.Attempt = fmt.Sprint("c", i), uint32(i)
			c.Created, c.Started, c.Finished = at(int64(i)*10000), at(int64(i)*10000+100), at(int64(i)*10000+400)
		}))
	}
	return all
}

// cases say which cause must come first. The golden file holds every word.
var cases = []struct {
	name, cause string
	evidence    why.Evidence
}{
	{"healthy", "none", why.Evidence{Containers: []why.Container{running()}}},
	{"a step nobody thought of fails", "quota.exhausted", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed("assign quota: resource temporarily unavailable", "")),
		step("2", "1", "quota.assign", 10, 40, failed("assign quota: resource temporarily unavailable", "")))}}},
	{"a step nobody thought of is slow", "quota.slow", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 4000), step("2", "1", "quota.assign", 10, 3900), step("3", "1", "image.rootfs.mount", 3900, 3950))}}},
	{"time without a step stays with the call that has it", "lifecycle.slow", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 4000), step("2", "1", "lifecycle.create_container", 10, 3900), step("3", "2", "image.rootfs.mount", 3500, 3950))}}},
	{"two calls that took their second and one that took three", "rootfs.slow", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "RunPodSandbox", 0, 1370), step("2", "1", "network.cni", 10, 1190, with("vitrine.cni.plugin", "bridge")),
		step("3", "", "CreateContainer", 2000, 5460), step("4", "3", "image.rootfs.mount", 2100, 5110),
		step("5", "", "StopPodSandbox", 9000, 10300), step("6", "5", "network.cni", 9100, 10020, with("vitrine.cni.plugin", "bridge")))}}},
	{"hanging beats slow", "network.hanging", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "RunPodSandbox", 0, 60000, unfinished), step("2", "1", "network.cni", 10, 60000, unfinished, with("vitrine.cni.plugin", "calico")))}}},
	{"the canceled sibling is not the cause", "image.digest", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 900, failed("pull: digest", "")),
		step("2", "1", "image.layer", 10, 800, failed("context canceled", "cancel")),
		step("3", "1", "image.layer", 10, 900, failed("layer: digest mismatch", "digest")))}}},
	{"a failure that a retry made good is told after the exit", "oom.killed", why.Evidence{
		Traces: []*waterfall.Trace{trace(
			step("1", "", "PullImage", 0, 50, failed("401", "auth")), step("2", "", "PullImage", 100, 150))},
		Containers: []why.Container{ended(pod.Exit{Code: 137, Signal: 9, Reason: "OOMKilled", Message: "the container was killed because the container's limit of 20Mi for memory was reached"})}}},
	{"a path or a name in the message does not move the cause", "process.denied", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed(`exec "/user/mount": permission denied`, "")),
		step("2", "1", "libct.start", 0, 50, failed(`exec "/user/mount": permission denied`, "")))}}},
	{"a mount that fails in the launcher lies in the request", "mount.missing", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed(`mount "/a" on "/b": no such file or directory`, "")),
		step("2", "1", "libct.start", 0, 50, failed(`mount "/a" on "/b": no such file or directory`, "")))}}},
	{"a registry's word for an image that another step lacks", "volume.missing", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed(`image "app:1" at /model: not found: image "app:1"`, "")),
		step("2", "1", "lifecycle.volumes", 0, 50, failed(`image "app:1" at /model: not found: image "app:1"`, "notfound")))}}},
	{"an image that is not there is no registry's fault", "image.missing", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed(`step image: create container: not found: image "app:1"`, "")),
		step("2", "1", "lifecycle.create_container", 0, 50, failed(`step image: create container: not found: image "app:1"`, "notfound")))}}},
	{"a room's own word stands above the shared one of its step", "image.auth", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 50, failed("authentication required", "")), step("2", "1", "image.pull", 0, 50, failed("authentication required", "auth")),
		step("3", "2", "image.manifest", 0, 50, failed("authentication required", "denied")))}}},
	{"a step's own word where the message has none", "quota.spent", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed("no", "")), step("2", "1", "quota.assign", 0, 50, failed("no", "spent")))}}},
	{"SIGKILL when the grace was over", "stop.killed", why.Evidence{
		Traces:     []*waterfall.Trace{trace(step("1", "", "StopContainer", 3000, 5200, with("container.id", "c1")))},
		Containers: []why.Container{ended(pod.Exit{Code: 137, Signal: 9, Reason: "Error"}, func(c *why.Container) { c.Stopped = true })}}},
	{"SIGKILL at once, with the pod", "none", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 137, Signal: 9, Reason: "Error"}, func(c *why.Container) { c.Stopped = true })}}},
	{"SIGKILL by somebody", "killed.outside", why.Evidence{Containers: []why.Container{ended(pod.Exit{Code: 137, Signal: 9, Reason: "Error"})}}},
	{"a crash with a flight recorder", "crash.signal", why.Evidence{Containers: []why.Container{flown(ended(pod.Exit{Code: 139, Signal: 11, Reason: "Error"}))}}},
	{"a crash", "crash.signal", why.Evidence{Containers: []why.Container{ended(pod.Exit{Code: 139, Signal: 11, Reason: "Error", CoreDumped: true})}}},
	{"an orderly stop is no fault", "none", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 143, Signal: 15, Reason: "Error"}, func(c *why.Container) { c.Stopped = true })}}},
	{"a child was OOM-killed and PID 1 gave up", "oom.child", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) { c.Figures.OOMKills = 2 })}}},
	{"the last words explain the status", "process.library", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 127, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "starting\napp: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file or directory"
		})}}},
	{"throttled and well otherwise", "cpu.throttled", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Periods: 1000, ThrottledPeriods: 900, Throttled: 80 * time.Second, CPU: 10 * time.Second}
	})}}},
	{"throttling explains the probes' timeouts less than they do themselves", "probe.timeout", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Periods: 1000, ThrottledPeriods: 300, Throttled: 20 * time.Second, Execs: history.Execs{Count: 10, Failed: 4, Timeouts: 4, Longest: 5 * time.Second, Total: 20 * time.Second}}
	})}}},
	{"probes fail because of the throttling", "cpu.throttled", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Periods: 1000, ThrottledPeriods: 700, Throttled: 60 * time.Second, Execs: history.Execs{Count: 3, NonZero: 3, Streak: 3}}
	})}}},
	{"done and started again", "exit.restarted", why.Evidence{Containers: attempts(pod.Exit{Reason: "Completed"}, 3)}},
	{"done once", "none", why.Evidence{Containers: attempts(pod.Exit{Reason: "Completed"}, 1)}},
	{"fails again and again", "exit.code", why.Evidence{Containers: attempts(pod.Exit{Code: 4, Reason: "Error"}, 4)}},
	{"an apparmor profile that is not loaded", "apparmor.missing", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed(`apparmor: profile "shop" is not there`, "")),
		step("2", "1", "lifecycle.spec", 10, 40, failed(`not found: apparmor: profile "shop" is not loaded`, "notfound")))}}},
	{"a host without apparmor", "apparmor.unsupported", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "CreateContainer", 0, 50, failed(`not supported: apparmor: profile "shop" was asked for and AppArmor is not enabled on this host`, "")),
		step("2", "1", "lifecycle.spec", 10, 40, failed(`not supported: apparmor: profile "shop" was asked for and AppArmor is not enabled on this host`, "unsupported")))}}},
	{"no more user namespaces", "userns.exhausted", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "RunPodSandbox", 0, 50, failed("create namespaces: clone in a user namespace: no space left on device", "")),
		step("2", "1", "network.namespaces", 10, 40, failed("create namespaces: clone in a user namespace: no space left on device", "")))}}},
	{"a volume whose server is gone", "process.stuck", why.Evidence{Containers: []why.Container{running(func(c *why.Container) { c.Process, c.Wait = "D", "rpc_wait_bit_killable" })}}},
	{"a log whose name is gone", "log.missing", why.Evidence{Containers: []why.Container{running(func(c *why.Container) { c.LogGone, c.LogPath = true, "/var/log/pods/shop_web/app/0.log" })}}},
	{"watches, not the disk", "process.watches", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "Error: ENOSPC: System limit for number of file watchers reached, watch '/app'"
		})}}},
	{"the disk, and which", "process.disk", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output, c.Figures.Full = "write /tmp/x: no space left on device", "the file system of its writable layer has 0 KiB left"
		})}}},
	{"a clock that is behind", "image.clock", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 50, failed("x509", "")),
		step("2", "1", "image.manifest", 10, 40, failed("x509: certificate has expired or is not yet valid: current time 2026-11-21T09:30:00Z is before 2026-11-22T09:30:00Z", "tls")))}}},
	{"a certificate that has expired", "image.tls", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 50, failed("x509", "")),
		step("2", "1", "image.manifest", 10, 40, failed("x509: certificate has expired or is not yet valid: current time 2026-11-21T09:30:00Z is after 2026-11-20T09:30:00Z", "tls")))}}},
	{"an image of another platform", "process.format", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 50), step("2", "1", "image.pull", 10, 40, with("vitrine.image.foreign", "linux/s390x"), with("vitrine.image.ref", "app:1")))},
		Containers: []why.Container{ended(pod.Exit{Code: 126, Reason: "StartError", Message: `start container: exec "/app": exec format error`}, func(c *why.Container) { c.Image = "app:1" })}}},
	{"an image of another platform that is translated", "none", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 50), step("2", "1", "image.pull", 10, 40, with("vitrine.image.foreign", "linux/s390x"), with("vitrine.image.ref", "app:1")))},
		Containers: []why.Container{ended(pod.Exit{Reason: "Completed"}, func(c *why.Container) { c.Image = "app:1" })}}},
	{"memory that files fill", "oom.killed", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 137, Signal: 9, Reason: "OOMKilled", Message: "the limit"}, func(c *why.Container) {
			c.Figures.MemoryLimit, c.Figures.MemoryFiles = 24<<20, 20<<20
		})}}},
	{"reclaim above memory.high", "memory.pressure", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{MemoryHigh: 30000}
	})}}},
	{"a neighbour that takes the CPU", "cpu.pressure", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{RunDelay: 40 * time.Second}
	})}}},
	{"pressure of a CPU that its own limit makes is throttling", "cpu.throttled", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Periods: 600, ThrottledPeriods: 540, Throttled: 50 * time.Second, CPUStall: 51 * time.Second}
	})}}},
	{"what every life has is no stall", "none", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Periods: 600, ThrottledPeriods: 20, Throttled: time.Second, MemoryHigh: 5, MemoryFailures: 100, MajorFaults: 300, IOStall: 2 * time.Second, RunDelay: 2 * time.Second}
	})}}},
	{"a probe that says no", "probe.failed", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Execs: history.Execs{Count: 9, NonZero: 4, Streak: 3}}
	})}}},
	{"a command that said no once and since then yes", "none", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Figures = history.Figures{Execs: history.Execs{Count: 9, NonZero: 1}}
	})}}},
	{"stopped because its probe said no", "probe.failed", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 143, Signal: 15, Reason: "Error"}, func(c *why.Container) {
			c.Stopped, c.Figures.Execs = true, history.Execs{Count: 3, NonZero: 3, Streak: 3}
		})}}},
	{"a denial before it gave up", "capability.denied", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "ip: RTNETLINK answers: Operation not permitted"
			c.Denials, c.AllDenials = []pod.Denial{
				{Layer: "capability", Capability: "SYS_ADMIN", First: at(200), Last: at(200), What: "mount without SYS_ADMIN"},
				{Layer: "capability", Capability: "NET_ADMIN", First: at(5000), Last: at(5000), What: "sendto needs NET_ADMIN", Remedy: "securityContext.capabilities.add: [NET_ADMIN]"}}, 3
		})}}},
	{"a denial before it gave up for another reason", "process.address", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "bind: Address already in use"
			c.Denials = []pod.Denial{{Layer: "capability", Capability: "SYS_NICE", First: at(5000), Last: at(5000), What: "setpriority needs SYS_NICE"}}
		})}}},
	{"a denial long before it gave up", "exit.code", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Finished = at(50000)
			c.Denials = []pod.Denial{{Layer: "seccomp", Syscall: "bpf", First: at(5000), Last: at(5000), What: "bpf was refused"}}
		})}}},
	{"a denial of one that goes on is a possibility", "seccomp.denied", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Denials = []pod.Denial{{Layer: "seccomp", Syscall: "bpf", Error: "EPERM", First: at(5000), Last: at(5000), What: "bpf was refused"}}
	})}}},
	{"a capability that was asked for and did not matter", "none", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Denials = []pod.Denial{{Layer: "capability", Capability: "SYS_RESOURCE", Count: 352, First: at(5000), Last: at(50000), What: "sendfile asked for SYS_RESOURCE"}}
	})}}},
	{"a denial does not explain the OOM killer", "oom.killed", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 137, Signal: 9, Reason: "OOMKilled", Message: "the limit"}, func(c *why.Container) {
			c.Denials = []pod.Denial{{Layer: "seccomp", Syscall: "bpf", First: at(5000), Last: at(5000), What: "bpf was refused"}}
		})}}},
	{"a frozen cgroup is no hanging kernel call", "process.frozen", why.Evidence{Containers: []why.Container{running(func(c *why.Container) {
		c.Process, c.Wait, c.Frozen = "D", "__refrigerator", "its cgroup"
	})}}},
	{"an operation cut off", "daemon.restarted", why.Evidence{Begun: []why.Begun{{Time: at(50), Name: "lifecycle.create_container", Container: "app"}},
		Lives: []why.Life{{Time: at(-1000), Boot: "a"}, {Time: at(2000), Boot: "a"}}}},
	{"the node was booted again", "node.rebooted", why.Evidence{Begun: []why.Begun{{Time: at(50), Name: "lifecycle.create_container", Container: "app", Ended: true}},
		Lives: []why.Life{{Time: at(-1000), Boot: "a"}, {Time: at(2000), Boot: "b"}}}},
	{"a restart in order harms nobody", "none", why.Evidence{Containers: []why.Container{running()},
		Lives: []why.Life{{Time: at(-1000), Boot: "a"}, {Time: at(1900), Boot: "a", Ended: true}, {Time: at(2000), Boot: "a"}}}},
	{"log that could not be written", "log.lost", why.Evidence{Containers: []why.Container{
		running(func(c *why.Container) { c.LogBytes, c.LogDropped = 4<<20, 1<<20 })}}},
	{"a pipe that nobody reads", "log.blocked", why.Evidence{Containers: []why.Container{
		running(func(c *why.Container) { c.Process, c.Wait, c.Monitor = "S", "anon_pipe_write", "T" })}}},
	{"a container that a boot took away", "node.rebooted", why.Evidence{Containers: []why.Container{running(func(c *why.Container) { c.Lost, c.Process, c.Wait = true, "D", "io" })},
		Lives: []why.Life{{Time: at(-1000), Boot: "a"}, {Time: at(2000), Boot: "b"}}}},
	{"a monitor that is stopped sees no end", "monitor.stopped", why.Evidence{
		Traces:     []*waterfall.Trace{trace(step("1", "", "StopContainer", 0, 30_000, unfinished, with("k8s.container.name", "app")))},
		Containers: []why.Container{running(func(c *why.Container) { c.State, c.Monitor = pod.Stopping, "T" })}}},
	{"a preStop hook that does not end", "stop.hook", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 0, Reason: "Completed"}, func(c *why.Container) {
			c.Stopped, c.Life.Stop = true, &pod.Stop{At: at(3000), Signal: "SIGTERM", Grace: 2 * time.Second}
			c.Figures.Execs = history.Execs{Count: 1, Failed: 1, Streak: 1, Timeouts: 1, Longest: 2 * time.Second, Last: at(2990)}
		})}}},
	{"stopped alone, and started again", "stop.restarted", why.Evidence{
		Traces: []*waterfall.Trace{trace(step("1", "", "StopContainer", 5000, 5200, with("k8s.container.name", "app")))},
		Containers: []why.Container{ended(pod.Exit{Code: 0, Reason: "Completed"}, func(c *why.Container) { c.Stopped = true }),
			running(func(c *why.Container) { c.Attempt, c.Created = 1, at(6000) })}}},
	{"stopped with its pod, and made again", "none", why.Evidence{
		Traces: []*waterfall.Trace{trace(step("1", "", "StopContainer", 5000, 5200, with("k8s.container.name", "app"))), trace(step("1", "", "StopPodSandbox", 5300, 5400))},
		Containers: []why.Container{ended(pod.Exit{Code: 0, Reason: "Completed"}, func(c *why.Container) { c.Stopped = true }),
			running(func(c *why.Container) { c.Attempt, c.Created = 1, at(6000) })}}},
	{"a child above the limit of file sizes", "process.filesize", why.Evidence{Containers: []why.Container{ended(pod.Exit{Code: 153, Reason: "Error"})}}},
	{"the kernel's own SIGKILL", "killed.kernel", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 137, Signal: 9, Reason: "Error", UserTime: time.Second, Sender: &pod.Sender{From: pod.FromKernel}})}}},
	{"a retry is no reason", "exit.code", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "db: connection refused, trying again\nconnected\nconfig: no key 'port'"
		})}}},
	{"a retry that is the last word is one", "process.tcp", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "db: connection refused, trying again"
		})}}},
	{"a panic before words of its own", "process.panic", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output = "Traceback (most recent call last):\n  File \"app.py\", line 1\nKeyError: 'DATABASE_URL'"
		})}}},
	{"a device that the pod was not given", "device.denied", why.Evidence{Containers: []why.Container{
		ended(pod.Exit{Code: 1, Reason: "Error"}, func(c *why.Container) {
			c.Figures.Output, c.Figures.Refused = "open /dev/kvm: operation not permitted", "/dev/kvm: the device c 10:232 is none that the container was given"
		})}}},
	{"what was tried otherwise is no cause", "image.unsupported", why.Evidence{Traces: []*waterfall.Trace{trace(
		step("1", "", "PullImage", 0, 90, failed("cannot read it: unsupported operation on artifact", "")),
		step("2", "1", "image.config", 10, 20, failed("not covered by the first way", "")),
		step("3", "1", "image.copy", 30, 80, failed("unsupported operation on artifact", "other")))}}},
}

func TestVerdictsNameTheCauseOfTheirEvidence(t *testing.T) {
	var b strings.Builder
	for _, c := range cases {
		e := c.evidence
		e.Pod, e.Now, e.Sandbox = "shop/web", at(60000), "ready"
		v := why.Judge(e)
		if v.Cause.Name != c.cause {
			t.Errorf("%s: %s (%.2f), want %s", c.name, v.Cause.Name, v.Cause.Score, c.cause)
		}
		if again := why.Judge(e); fmt.Sprint(again) != fmt.Sprint(v) {
			t.Errorf("%s: another verdict from the same evidence", c.name)
		}
		fmt.Fprintf(&b, "# %s\n%s: %s\n", c.name, v.Subject, v.State)
		for _, cause := range append([]why.Cause{v.Cause}, v.Others...) {
			fmt.Fprintf(&b, "%.2f %s: %s\n", cause.Score, cause.Name, cause.Sentence)
			for _, f := range cause.Facts {
				fmt.Fprintf(&b, "     %s %s: %s\n", f.Time.UTC().Format("15:04:05.000"), f.Source, f.Text)
			}
			fmt.Fprintf(&b, "     next: %s\n", cause.Next)
		}
		b.WriteString("\n")
	}
	golden.Check(t, filepath.Join("testdata", "verdicts.txt"), b.String())
}

func TestAContainerIsJudgedWithoutItsNeighbours(t *testing.T) {
	other := ended(pod.Exit{Code: 137, Signal: 9, Reason: "OOMKilled"})
	other.Name, other.ID = "sidecar", "c2"
	e := why.Evidence{Pod: "shop/web", Now: at(60000), Containers: []why.Container{running(), other}}
	if v := why.Judge(e); v.Cause.Name != "oom.killed" || v.Cause.Container != "sidecar" {
		t.Errorf("of the pod: %+v", v.Cause)
	}
	e.Container = "app"
	if v := why.Judge(e); v.Cause.Name != why.None || strings.Contains(v.State, "sidecar") {
		t.Errorf("of the container: %+v", v)
	}
}

// Whatever the traces hold, there is a verdict, and its facts are bounded.
func TestManyAttemptsAreShortened(t *testing.T) {
	e := why.Evidence{Pod: "shop/web", Now: at(1 << 20)}
	for i := range int64(100) {
		e.Traces = append(e.Traces, trace(step(fmt.Sprint(i), "", "PullImage", i*1000, i*1000+10, failed("429", "ratelimit"))))
	}
	v := why.Judge(e)
	if v.Cause.Name != "image.ratelimit" {
		t.Errorf("%s", v.Cause.Name)
	}
	if len(v.Cause.Facts) > 10 || !slices.IsSortedFunc(v.Cause.Facts, func(a, b why.Fact) int { return a.Time.Compare(b.Time) }) {
		t.Errorf("%d facts", len(v.Cause.Facts))
	}
}
