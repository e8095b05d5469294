package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/criclient"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// shimConfig is a handler "shim": Debian's containerd-shim-runc-v2, which test/packages installs.
func shimConfig(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("containerd-shim-runc-v2")
	if err != nil && os.Getenv(harness.BinEnv) != "" {
		t.Skip("the guest has no containerd-shim-runc-v2")
	} else if err != nil {
		t.Fatalf("the Debian package containerd is missing: %v", err)
	}
	return fmt.Sprintf("[runtime.handlers.shim]\nshim = %q\n", path)
}

// shimPod runs a pod of the handler "shim".
func shimPod(t *testing.T, n *node, pod *runtime.PodSandboxConfig) string {
	t.Helper()
	return harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: "shim"}))(t).PodSandboxId
}

// shimFiles are what a shim keeps outside the instance's own directories: its socket.
func shimFiles(t *testing.T, n *node, container string) (socket string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(shimDir(n, container), "address"))
	n.must(err)
	return strings.TrimPrefix(strings.TrimSpace(string(raw)), "unix://")
}

func shimDir(n *node, container string) string {
	return filepath.Join(n.State(), "containers", container, "shim", container)
}

// nothingOfShims is the census with what only shims have.
func nothingOfShims(t *testing.T, n *node, sockets ...string) {
	t.Helper()
	n.nothingLeft()
	for _, socket := range sockets {
		if _, err := os.Stat(socket); err == nil {
			t.Errorf("the shim's socket %s is left", socket)
		}
	}
}

func TestContainerAtAShimIsMonitoredTheSameWay(t *testing.T) {
	n := start(t, harness.Options{Config: shimConfig(t)})
	pod := n.Pod("shim")
	sandbox := shimPod(t, n, pod)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "echo out; echo err >&2; trap 'echo term; exit 6' TERM; while :; do sleep 0.05; done")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "err")
	second := harness.Container(pod, "second", n.image, "/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 3")
	other := harness.Must(n.cri.Run(n.ctx, sandbox, pod, second))(t)
	sockets := []string{shimFiles(t, n, id), shimFiles(t, n, other)}
	if end := harness.Must(n.cri.WaitExit(n.ctx, other))(t); end.ExitCode != 3 || end.Reason != "Error" {
		t.Errorf("second container: exit code %d, reason %q", end.ExitCode, end.Reason)
	}
	n.stdout(pod, second, numbered(20000))
	n.must(n.cri.Stop(n.ctx, id, 20))
	if end := harness.Must(n.cri.Status(n.ctx, id))(t); end.ExitCode != 6 {
		t.Errorf("exit code %d, want 6", end.ExitCode)
	}
	n.stdout(pod, c, "out\nterm\n")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	nothingOfShims(t, n, sockets...)
}

func TestProcessesAndStreamsInAContainerAtAShim(t *testing.T) {
	n := start(t, harness.Options{Config: shimConfig(t)})
	pod := n.Pod("shim-streams")
	sandbox := shimPod(t, n, pod)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "while read line; do echo got $line; done; echo end; sleep 1000")
	c.Stdin, c.StdinOnce = true, true
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	socket := shimFiles(t, n, id)

	out := harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", "echo in; echo err >&2; exit 3"))(t)
	if string(out.Stdout) != "in\n" || string(out.Stderr) != "err\n" || out.ExitCode != 3 {
		t.Errorf("exec gave %q, %q, code %d", out.Stdout, out.Stderr, out.ExitCode)
	}
	long := harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"))(t)
	if want := numbered(5000); string(long.Stdout) != want {
		t.Errorf("exec gave %d bytes, want %d lines", len(long.Stdout), 5000)
	}
	if out, err := n.cri.Exec(n.ctx, id, 60, "nosuch"); err != nil || out.ExitCode != 127 || !strings.Contains(string(out.Stderr), "not found") {
		t.Errorf("exec of a missing command: %v, %v", out, err)
	}
	if _, err := n.cri.Exec(n.ctx, id, 1, "/bin/sh", "-c", "exec sleep 4242"); err == nil {
		t.Error("an exec outlived its timeout")
	}
	for _, transport := range transports {
		got := harness.Must(n.cri.ExecStream(n.ctx, transport, id, "typed\n", "/bin/sh", "-c", "cat; echo err >&2; exit 5"))(t)
		if got != (harness.Output{Stdout: "typed\n", Stderr: "err\n", Exit: 5}) {
			t.Errorf("exec over %s: %+v", transport, got)
		}
	}
	if got := harness.Must(n.cri.AttachOnce(n.ctx, transports[0], id, "hello"))(t); got != "got hello" {
		t.Errorf("attach gave %q", got)
	}
	waitLog(t, pod, c, "end") // its input ended with the client
	waitFor(t, "the timed-out exec's process to be gone", func() bool {
		out, err := n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
		return err == nil && !strings.Contains(string(out.Stdout), "sleep 4242")
	})
	stats := harness.Must(n.cri.ContainerStats(n.ctx, &runtime.ContainerStatsRequest{ContainerId: id}))(t).Stats
	if stats.GetMemory().GetUsageBytes().GetValue() == 0 || stats.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 {
		t.Errorf("figures of a running container: %v", stats)
	}
	n.must(n.cri.Stop(n.ctx, id, 0))
	if end := harness.Must(n.cri.Status(n.ctx, id))(t); end.ExitCode != 137 {
		t.Errorf("exit code %d after a kill, want 137", end.ExitCode)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	nothingOfShims(t, n, socket)
}

func TestTerminalOfAContainerAtAShim(t *testing.T) {
	n := start(t, harness.Options{Config: shimConfig(t)})
	pod := n.Pod("shim-tty")
	sandbox := shimPod(t, n, pod)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "tty; echo ready; read line; echo got $line; stty size; exit 4")
	c.Tty, c.Stdin = true, true
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "ready")
	attached := harness.Must(n.cri.Attach(n.ctx, &runtime.AttachRequest{ContainerId: id, Tty: true, Stdin: true, Stdout: true}))(t)
	in, typed := io.Pipe()
	sizes := make(chan criclient.Size, 1)
	sizes <- criclient.Size{Width: 101, Height: 33}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = criclient.Run(n.ctx, transports[0], attached.Url, criclient.Streams{Stdin: in, Stdout: io.Discard, TTY: true, Resize: sizes})
	}()
	waitFor(t, "the terminal to have its size", func() bool {
		out, err := n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", "stty size < /dev/pts/0")
		return err == nil && string(out.Stdout) == "33 101\n"
	})
	_, err := io.WriteString(typed, "typed\r")
	n.must(err)
	if end := harness.Must(n.cri.WaitExit(n.ctx, id))(t); end.ExitCode != 4 {
		t.Errorf("exit code %d, want 4", end.ExitCode)
	}
	close(sizes)
	typed.Close()
	<-ended
	n.stdout(pod, c, "/dev/pts/0\r\nready\r\ntyped\r\ngot typed\r\n33 101\r\n")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// numbered are so many lines that no other has been lost among.
func numbered(lines int) string {
	var all strings.Builder
	for i := range lines {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	return all.String()
}

// waitFor waits until ok, for a generous time.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(harness.Scale(time.Minute)); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// processWith finds the process whose command line has all the parts.
func processWith(t *testing.T, parts ...string) int {
	t.Helper()
	pid := findProcess(parts...)
	if pid == 0 {
		t.Fatalf("no process with %q", parts)
	}
	return pid
}

// findProcess is processWith, or 0.
func findProcess(parts ...string) int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		found := len(raw) > 0
		for _, part := range parts {
			found = found && strings.Contains(strings.ReplaceAll(string(raw), "\x00", " "), part)
		}
		if found {
			return pid
		}
	}
	return 0
}

// Whatever is killed – the daemon, the monitor, the keeper – the container goes on, no
// line is lost, and its exit code is its own. Only its shim's death is its own too.
func TestContainerAtAShimSurvivesWhoWatchesIt(t *testing.T) {
	n := start(t, harness.Options{Config: shimConfig(t)})
	pod := n.Pod("shim-kills")
	sandbox := shimPod(t, n, pod)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c",
		"trap 'exit 6' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	socket := shimFiles(t, n, id)
	init := initPID(t, n, id)
	lines := func() int {
		log, err := harness.ReadLog(harness.LogPath(pod, c))
		if err != nil {
			return 0
		}
		return strings.Count(string(log.Stdout), "\n")
	}
	goesOn := func(after string) {
		t.Helper()
		had := lines()
		waitFor(t, "lines after the death of "+after, func() bool { return lines() > had+10 })
		if syscall.Kill(init, 0) != nil {
			t.Fatalf("the container did not survive the death of %s", after)
		}
	}
	goesOn("nobody")
	for _, name := range []string{"its keeper", "its second keeper"} {
		keeper := processWith(t, "vitrine-shim keep", id)
		n.must(syscall.Kill(keeper, syscall.SIGKILL))
		waitFor(t, "a new keeper", func() bool {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", keeper))
			return err != nil || len(raw) == 0
		})
		goesOn(name)
	}
	n.must(n.Kill9())
	goesOn("the daemon")
	n.must(n.Daemon.Start(n.ctx))
	goesOn("the daemon, and its return")
	monitor := processWith(t, "vitrine-monitor", id)
	n.must(syscall.Kill(monitor, syscall.SIGKILL))
	waitFor(t, "a new monitor", func() bool {
		_, err := n.cri.Exec(n.ctx, id, 60, "true")
		return err == nil
	})
	goesOn("its monitor")
	n.must(n.cri.Stop(n.ctx, id, 60))
	if end := harness.Must(n.cri.Status(n.ctx, id))(t); end.ExitCode != 6 {
		t.Errorf("exit code %d, want 6", end.ExitCode)
	}
	log := harness.Must(harness.ReadLog(harness.LogPath(pod, c)))(t)
	if want := numbered(strings.Count(string(log.Stdout), "\n")); string(log.Stdout) != want {
		t.Errorf("lines are lost: %q", log.Stdout)
	}

	other := harness.Container(pod, "other", n.image, "sleep", "1000")
	otherID := harness.Must(n.cri.Run(n.ctx, sandbox, pod, other))(t)
	otherSocket := shimFiles(t, n, otherID)
	n.must(syscall.Kill(processWith(t, "containerd-shim-runc-v2", otherID), syscall.SIGKILL))
	if end := harness.Must(n.cri.WaitExit(n.ctx, otherID))(t); end.ExitCode != 137 {
		t.Errorf("exit code %d after the shim's death, want 137", end.ExitCode)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	nothingOfShims(t, n, socket, otherSocket)
}

func TestWhatAShimCannotDoIsSaid(t *testing.T) {
	n := start(t, harness.Options{Config: shimConfig(t) + "[runtime.handlers.missing]\nshim = \"/nosuch/shim\"\n[runtime.handlers.wrong]\nshim = \"/bin/false\"\n"})
	pod := n.HostPod("shim-errors")
	_, err := n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: "missing"})
	refused(t, err, codes.InvalidArgument, "/nosuch/shim")
	sandbox := shimPod(t, n, pod)
	missing := harness.Container(pod, "c", n.image, "nosuch")
	if _, err := n.cri.Create(n.ctx, sandbox, pod, missing); err == nil || !strings.Contains(err.Error(), `exec "nosuch": executable file not found in $PATH`) {
		t.Errorf("create of a missing command: %v", err)
	}
	never := harness.Container(pod, "never", n.image, "sleep", "1000")
	harness.Must(n.cri.Create(n.ctx, sandbox, pod, never))(t)
	for _, h := range harness.Must(n.cri.RuntimeServiceClient.Status(n.ctx, &runtime.StatusRequest{}))(t).RuntimeHandlers {
		if h.Name == "shim" && (h.Features.RecursiveReadOnlyMounts || h.Features.UserNamespaces) {
			t.Errorf("features that a shim cannot tell: %v", h.Features)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	other := n.HostPod("shim-wrong")
	sandbox = harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: other, RuntimeHandler: "wrong"}))(t).PodSandboxId
	if _, err := n.cri.Create(n.ctx, sandbox, other, harness.Container(other, "c", n.image, "true")); err == nil || !strings.Contains(err.Error(), "false: exit status 1") {
		t.Errorf("create by what is no shim: %v", err)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
