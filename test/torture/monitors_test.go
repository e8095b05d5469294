package torture

import (
	"bytes"
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

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

var (
	watched      = flag.Int("watched", 10, "containers whose monitors are upgraded or killed")
	upgrades     = flag.Int("upgrades", 3, "upgrades of every monitor")
	monitorKills = flag.Int("monitor-kills", 20, "monitors killed")
)

// round is how many lines a writer numbers before it begins anew.
const round = 2000

// writers are containers that write numbered lines, round after round, until told to
// end; each then says how many rounds there were and exits with a code of its own.
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
	c := harness.Container(pod, "writer", image, "/bin/sh", "-c", fmt.Sprintf(
		`r=0; until [ -e /tmp/end ]; do /bin/payload lines %d 60 %d || exit 1; r=$((r+1)); done; echo $r >&2; exit %d`, round, 4*round, code))
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
		n, err := checkRounds(writer.log)
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

// checkRounds reads a writer's log: each line once, in order, as many as it says.
func checkRounds(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var partial, said []byte
	n := 0
	if err := harness.ParseLog(f, func(rec harness.LogRecord) error {
		if rec.Stream == "stderr" {
			said = append(said, rec.Text...)
			return nil
		}
		partial = append(partial, rec.Text...)
		if rec.Partial {
			return nil
		}
		line := bytes.Clone(partial)
		partial = partial[:0]
		if at, err := strconv.Atoi(string(line[:min(10, len(line))])); err != nil || at != n%round || len(line) != 59 {
			return fmt.Errorf("want line %d of round %d, got %.80q", n%round, n/round, line)
		}
		n++
		return nil
	}); err != nil {
		return n, err
	}
	if rounds, err := strconv.Atoi(string(said)); err != nil || n != rounds*round || len(partial) > 0 {
		return n, fmt.Errorf("%d lines and %d bytes, the writer says %q rounds of %d", n, len(partial), said, round)
	}
	return n, nil
}

// monitor is the pid of the container's monitor, 0 when there is none.
func (w *writers) monitor(id string) int {
	dir := filepath.Join(w.State(), "containers", id)
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		raw, _ := os.ReadFile(path)
		if args := strings.Split(string(raw), "\x00"); len(args) > 1 && args[1] == dir && strings.HasSuffix(args[0], "vitrine-monitor") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}

func TestUpgradesOfAllMonitorsLoseNothing(t *testing.T) {
	w := startWriters(t)
	pids := map[string]int{}
	for _, c := range w.all {
		pids[c.id] = w.monitor(c.id)
	}
	command := filepath.Join(harness.Must(harness.Bin())(t), "vitrine")
	for range *upgrades {
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

func TestKilledMonitorsAreReplacedAndLoseNothing(t *testing.T) {
	w := startWriters(t)
	var took []time.Duration
	for i := range *monitorKills {
		c := w.all[rand.N(len(w.all))]
		killed, err := w.kill(c.id)
		if err != nil {
			t.Errorf("kill %d: %v", i+1, err)
			break
		}
		took = append(took, killed)
	}
	slices.Sort(took)
	if len(took) > 0 {
		t.Logf("%d monitors replaced, in %v in the median and %v at most", len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	}
	w.finish(t)
}

// kill kills the container's monitor and returns when another answers for it.
func (w *writers) kill(id string) (time.Duration, error) {
	old := w.monitor(id)
	if old == 0 {
		return 0, errors.New("there is no monitor")
	}
	from := time.Now()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		return 0, err
	}
	const oPath = 0x200000 // a socket's address has room for 107 bytes only
	dir, err := syscall.Open(filepath.Join(w.State(), "containers", id), oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(dir)
	socket := fmt.Sprintf("/proc/self/fd/%d/ctl", dir)
	for deadline := from.Add(harness.Scale(30 * time.Second)); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0); err == nil {
			err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket})
			syscall.Close(fd)
			if err == nil {
				took := time.Since(from)
				s, err := w.cri.Exec(w.ctx, id, 30, "echo", "alive")
				if err == nil && string(s.Stdout) == "alive\n" {
					return took, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("no new monitor in the place of %d", old)
}
