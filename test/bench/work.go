package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// withPod runs work against one running container and removes the pod.
func withPod(ctx context.Context, t *target, work func(pod *runtime.PodSandboxConfig, sandbox string) error) error {
	pod := t.HostPod("bench")
	sandbox, err := t.cri.RunPod(ctx, pod)
	if err != nil {
		return err
	}
	err = work(pod, sandbox)
	if e := t.cri.RemovePod(context.WithoutCancel(ctx), sandbox); err == nil {
		err = e
	}
	return err
}

// measureExec runs /bin/true through ExecSync, 1 and 8 at a time.
func measureExec(ctx context.Context, o options, t *target, r *report) error {
	return withPod(ctx, t, func(pod *runtime.PodSandboxConfig, sandbox string) error {
		id, err := t.cri.Run(ctx, sandbox, pod, harness.Container(pod, "c", t.image, "/bin/payload", "wait"))
		if err != nil {
			return err
		}
		for _, parallel := range []int{1, 8} {
			var workers sync.WaitGroup
			var once sync.Once
			var failed error
			for range parallel {
				workers.Go(func() {
					for range o.execs / parallel {
						from := time.Now()
						if answer, err := t.cri.Exec(ctx, id, 30, "/bin/true"); err != nil || answer.ExitCode != 0 {
							once.Do(func() { failed = fmt.Errorf("exec: %v, %w", answer, err) })
							return
						}
						r.add(t.name, fmt.Sprintf("ExecSync c%d", parallel), milliseconds, time.Since(from).Seconds()*1000)
					}
				})
			}
			workers.Wait()
			if failed != nil {
				return failed
			}
		}
		return nil
	})
}

// logTurn is one measurement of logs.
type logTurn struct {
	writers int
	// room: the files have it before the time is taken. The allocation of its pages takes the
	// kernel about as long as all that a monitor does with them, at every monitor; without
	// that the monitors are compared.
	room bool
}

var logTurns = []logTurn{{1, false}, {8, false}, {1, true}, {8, true}}

// measureLogs lets 1 and 8 containers write 100-byte lines as fast as they can, until
// all is in the files.
func measureLogs(ctx context.Context, o options, t *target, r *report) error {
	for _, turn := range logTurns {
		writers := turn.writers
		err := withPod(ctx, t, func(pod *runtime.PodSandboxConfig, sandbox string) error {
			lines := o.logMiB << 20 / 100 / writers
			var ids []string
			var logs []string
			for i := range writers {
				c := harness.Container(pod, fmt.Sprintf("w%d", i), t.image, "/bin/payload", "lines", strconv.Itoa(lines), "100")
				id, err := t.cri.Create(ctx, sandbox, pod, c)
				if err != nil {
					return err
				}
				ids, logs = append(ids, id), append(logs, harness.LogPath(pod, c))
			}
			if err := o.prepare(turn, logs, lines); err != nil {
				return err
			}
			busy, err := cpuSeconds()
			if err != nil {
				return err
			}
			own := cpuOf(t.daemon)
			from := time.Now()
			for _, id := range ids {
				if err := t.cri.Start(ctx, id); err != nil {
					return err
				}
			}
			if err := each(writers, func(i int) error { return containerEnds(ctx, t.cri, ids[i]) }); err != nil {
				return err
			}
			wall := time.Since(from).Seconds()
			after, err := cpuSeconds()
			if err != nil {
				return err
			}
			own = cpuOf(t.daemon) - own
			pids, err := monitorsOf(append(ids, sandbox))
			if err != nil {
				return err
			}
			for _, pid := range pids {
				own += cpuOf(pid)
			}
			addLogs(r, t.name, turn, float64(lines*100*writers), wall, after-busy, own)
			return complete(logs, lines)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addLogs adds what content bytes took, in seconds of the clock and of CPU time: the
// machine's, and that of the daemon and the monitors, which a busy machine adds nothing to.
func addLogs(r *report, target string, turn logTurn, content, wall, busy, own float64) {
	r.add(target, "log throughput, "+turn.String(), mbPerSecond, content/1e6/wall)
	r.add(target, "machine CPU per GiB of log, "+turn.String(), milliseconds, busy*1000/content*(1<<30))
	r.add(target, "daemon's and monitors' CPU per GiB of log, "+turn.String(), milliseconds, own*1000/content*(1<<30))
}

func (t logTurn) String() string {
	if t.room {
		return fmt.Sprintf("%d containers, room made before", t.writers)
	}
	return fmt.Sprintf("%d containers", t.writers)
}

// makeRoom gives each log room for so many lines of 100 bytes behind its end, where the
// file system can (fallocate(2), FALLOC_FL_KEEP_SIZE).
func (t logTurn) makeRoom(logs []string, lines int) error {
	if !t.room {
		return nil
	}
	for _, path := range logs {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // some runtimes make it at the start
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o640)
		if err != nil {
			return err
		}
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(lines)*150) // a record has 141 bytes
		f.Close()
		if err != nil {
			return fmt.Errorf("make room for the log %s: %w", path, err)
		}
	}
	return nil
}

// complete fails when a log lacks lines: a figure for lost output is worth nothing.
func complete(paths []string, lines int) error {
	for _, path := range paths {
		got := 0
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = harness.ParseLog(f, func(rec harness.LogRecord) error {
			if !rec.Partial {
				got++
			}
			return nil
		})
		f.Close()
		if err != nil {
			return err
		}
		if got != lines {
			return fmt.Errorf("%s has %d lines, want %d", path, got, lines)
		}
		os.Remove(path)
	}
	return nil
}

// measureDensity runs containers, one per pod, and divides the memory of the daemon
// and of every process that it added on the host by their number.
func measureDensity(ctx context.Context, o options, t *target, r *report) (err error) {
	idle, err := memoryOf(t.daemon)
	if err != nil {
		return err
	}
	var pods, ids []string
	defer func() {
		for _, id := range pods {
			if e := t.cri.RemovePod(context.WithoutCancel(ctx), id); err == nil {
				err = e
			}
		}
	}()
	for range o.density {
		pod := t.HostPod("dense")
		sandbox, err := t.cri.RunPod(ctx, pod)
		if err != nil {
			return err
		}
		pods = append(pods, sandbox)
		id, err := t.cri.Run(ctx, sandbox, pod, harness.Container(pod, "c", t.image, "/bin/sleep", "86400"))
		if err != nil {
			return err
		}
		ids = append(ids, sandbox, id)
	}
	time.Sleep(2 * time.Second) // what was needed for starting is given back
	pids, err := monitorsOf(ids)
	if err != nil {
		return err
	}
	var monitors memory
	for _, pid := range pids {
		m, err := memoryOf(pid)
		if dropped(err) {
			continue
		}
		if err != nil {
			return err
		}
		monitors.pss += m.pss
		monitors.private += m.private
	}
	daemon, err := memoryOf(t.daemon)
	if err != nil {
		return err
	}
	per := float64(o.density) * 1024
	r.add(t.name, "monitors' private dirty per container", kibibytes, float64(monitors.private)/per)
	r.add(t.name, "monitors' PSS per container", kibibytes, float64(monitors.pss)/per)
	r.add(t.name, "daemon and monitors, private dirty per container", kibibytes, float64(monitors.private+daemon.private)/per)
	r.add(t.name, "daemon's growth per container, private dirty", kibibytes, float64(daemon.private-idle.private)/per)
	return nil
}
