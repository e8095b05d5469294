package torture

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

var (
	watched      = flag.Int("watched", 10, "containers whose monitors are upgraded or killed")
	watchedRate  = flag.Int("watched-rate", 10_000, "lines per second that all of them write together")
	upgrades     = flag.Int("upgrades", 3, "upgrades of every monitor")
	monitorKills = flag.Int("monitor-kills", 20, "monitors killed")
)

// writers are containers that write numbered lines until told to end; each then says
// how many there were and exits with a code of its own. All the time they write little:
// what is measured are the monitors and not how long two cores need for a flood. A
// writer that is poked writes as fast as it can for a moment, so that its monitor is
// at work when it is killed or upgraded.
type writers struct {
	*harness.Daemon
	cri    *harness.CRI
	ctx    context.Context
	before *harness.Census
	all    []writer
}

type writer struct {
	id, sandbox, log string
	init             int
	code             int32
}

func startWriters(t *testing.T) *writers {
	t.Helper()
	d, image := start(t)
	w := &writers{Daemon: d, cri: d.Client(t), ctx: harness.Context(t, 30*time.Minute), before: harness.Must(d.Census())(t)}
	w.all = make([]writer, *watched)
	var running sync.WaitGroup
	slots := make(chan struct{}, *parallel)
	for i := range w.all {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if err := w.start(i, image); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if t.Failed() {
		w.cri.RemoveAll(w.ctx)
		t.FailNow()
	}
	return w
}

func (w *writers) start(i int, image string) error {
	pod := w.HostPod(fmt.Sprintf("writer-%d", i))
	sandbox, err := w.cri.RunPod(w.ctx, pod)
	if err != nil {
		return err
	}
	code := int32(i%200 + 10)
	c := harness.Container(pod, "writer", image, "/bin/payload", "write", "/tmp/end", strconv.Itoa(max(1, *watchedRate / *watched)), strconv.Itoa(int(code)))
	id, err := w.cri.Run(w.ctx, sandbox, pod, c)
	if err != nil {
		return err
	}
	s, err := w.cri.ContainerStatus(w.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return err
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(s.Info["info"]), &info); err != nil {
		return err
	}
	w.all[i] = writer{id: id, sandbox: sandbox, log: harness.LogPath(pod, c), init: info.PID, code: code}
	return nil
}

// finish ends the writers and checks every line and every exit.
func (w *writers) finish(t *testing.T) {
	t.Helper()
	for _, writer := range w.all {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/end", writer.init), nil, 0o644); err != nil {
			t.Errorf("tell %.13s to end: %v", writer.id, err)
		}
	}
	total := 0
	for _, writer := range w.all {
		s, err := w.cri.WaitExit(w.ctx, writer.id)
		if err != nil || s.ExitCode != writer.code {
			t.Errorf("%.13s: exit %d (%s: %s), %v, want %d", writer.id, s.GetExitCode(), s.GetReason(), s.GetMessage(), err, writer.code)
			continue
		}
		n, err := checkLines(writer.log)
		if err != nil {
			t.Errorf("log of %.13s: %v", writer.id, err)
		}
		total += n
	}
	t.Logf("%d lines", total)
	if err := w.cri.RemoveAll(w.ctx); err != nil {
		t.Error(err)
	}
	harness.NothingLeft(t, w.Daemon, w.before)
}

// poke has the writer write a burst.
func (w writer) poke() error { return syscall.Kill(w.init, syscall.SIGUSR1) }

// checkLines reads a writer's log: each line once, in order, as many as it says.
func checkLines(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var lines sequence
	var said []byte
	if err := harness.ParseLog(f, func(rec harness.LogRecord) error {
		if rec.Stream == "stderr" {
			said = append(said, rec.Text...)
			return nil
		}
		return lines.line(rec)
	}); err != nil {
		return lines.next, err
	}
	if want, err := strconv.Atoi(string(said)); err != nil || lines.next != want || len(lines.partial) > 0 {
		return lines.next, fmt.Errorf("%d lines and %d bytes, the writer says %q", lines.next, len(lines.partial), said)
	}
	return lines.next, nil
}

// monitor is the pid of the container's monitor, 0 when there is none: the process that
// made the control socket listen.
func (w *writers) monitor(id string) int {
	const oPath = 0x200000 // a socket's address has room for 107 bytes only
	dir, err := unix.Open(filepath.Join(w.State(), "containers", id), oPath|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/ctl", dir)}); err != nil {
		return 0
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(peer.Pid)
}

func TestUpgradesOfAllMonitorsLoseNothing(t *testing.T) {
	w := startWriters(t)
	pids := map[string]int{}
	for _, c := range w.all {
		pids[c.id] = w.monitor(c.id)
	}
	command := filepath.Join(harness.Must(harness.Bin())(t), "vitrine")
	for range *upgrades {
		for _, c := range w.all {
			if err := c.poke(); err != nil {
				t.Errorf("poke %.13s: %v", c.id, err)
			}
		}
		out, err := exec.CommandContext(w.ctx, command, "--state", w.State(), "monitor", "upgrade", "--all").CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d monitors upgraded", *watched)) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	for _, c := range w.all {
		if now := w.monitor(c.id); now == 0 || now != pids[c.id] {
			t.Errorf("the monitor of %.13s was %d and is %d", c.id, pids[c.id], now)
		}
	}
	w.finish(t)
}

// replacedWithin is promised for the median of the replacements on an idle machine.
const replacedWithin = 100 * time.Millisecond

func TestKilledMonitorsAreReplacedAndLoseNothing(t *testing.T) {
	w := startWriters(t)
	took, slowdown := w.killMany(t)
	slices.Sort(took)
	if len(took) > 0 {
		at := func(percent int) time.Duration { return took[(len(took)-1)*percent/100].Round(time.Millisecond) }
		t.Logf("%d monitors replaced, in %v in the median, %v in 99 of 100 and %v at most; the machine was %.1f times slower than idle in the median", len(took), at(50), at(99), at(100), slowdown)
		if bound := time.Duration(slowdown * float64(replacedWithin)); at(50) > bound {
			t.Errorf("a monitor was replaced in %v in the median, want %v", at(50), bound)
		}
	}
	w.finish(t)
}

// killers is how many monitors are killed at a time.
const killers = 4

// killMany kills monitors, each killer those of its own share of the containers. It
// returns how long the replacements took, and how slow the machine was in the median.
func (w *writers) killMany(t *testing.T) (took []time.Duration, slowdown float64) {
	t.Helper()
	var lock sync.Mutex // guards took
	var running sync.WaitGroup
	for k := range min(killers, len(w.all)) {
		running.Go(func() {
			for i := k; i < *monitorKills; i += killers {
				at := rand.N((len(w.all)-k+killers-1)/killers)*killers + k
				one, err := w.kill(w.all[at])
				if err != nil {
					t.Errorf("kill %d: %v", i+1, err)
					return
				}
				lock.Lock()
				took = append(took, one)
				lock.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	for samples := []float64{}; ; {
		samples = append(samples, harness.Slowdown())
		select {
		case <-done:
			slices.Sort(samples)
			return took, samples[len(samples)/2]
		case <-time.After(time.Second):
		}
	}
}

// kill kills the container's monitor while a burst of lines is under way and returns
// how long it took until another listened in its place. That one works: it executes.
func (w *writers) kill(c writer) (time.Duration, error) {
	old := w.monitor(c.id)
	if old == 0 {
		return 0, errors.New("there is no monitor")
	}
	if err := c.poke(); err != nil {
		return 0, err
	}
	time.Sleep(rand.N(2 * time.Millisecond)) // to hit it at different moments
	from := time.Now()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		return 0, err
	}
	for deadline := from.Add(harness.Scale(30 * time.Second)); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if now := w.monitor(c.id); now == 0 || now == old {
			continue
		}
		took := time.Since(from)
		if s, err := w.cri.Exec(w.ctx, c.id, 30, "echo", "alive"); err == nil && string(s.Stdout) == "alive\n" {
			return took, nil
		}
	}
	return 0, fmt.Errorf("no new monitor in the place of %d", old)
}
