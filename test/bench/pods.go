package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// measurePods runs whole pod cycles on the host's network and on CNI's, 1, 4 and 8
// at a time.
func measurePods(ctx context.Context, o options, t *target, r *report) error {
	for _, cell := range []struct {
		name string
		make func(string) *runtime.PodSandboxConfig
		skip bool
	}{{"host", t.HostPod, false}, {"cni", t.Pod, !t.network}} {
		for _, parallel := range []int{1, 4, 8} {
			if cell.skip {
				continue
			}
			if err := podCell(ctx, o.pods, parallel, t, r, fmt.Sprintf("%s c%d", cell.name, parallel), cell.make); err != nil {
				return err
			}
		}
	}
	return nil
}

func podCell(ctx context.Context, n, parallel int, t *target, r *report, cell string, config func(string) *runtime.PodSandboxConfig) error {
	if _, err := podCycle(ctx, t, config("warm")); err != nil {
		return err
	}
	if t.plugins != nil {
		if _, err := t.plugins.take(); err != nil { // of other cells
			return err
		}
	}
	busy, err := cpuSeconds()
	if err != nil {
		return err
	}
	from := time.Now()
	var next atomic.Int64
	var workers sync.WaitGroup
	var failed error
	var once sync.Once
	var mu sync.Mutex // guards cycles
	var cycles []cycle
	var network bool
	for range parallel {
		workers.Go(func() {
			for next.Add(1) <= int64(n) {
				pod := config("bench")
				one, err := podCycle(ctx, t, pod)
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				for _, s := range one.steps {
					r.add(t.name, cell+" "+s.name, milliseconds, s.took.Seconds()*1000)
				}
				mu.Lock()
				cycles = append(cycles, one)
				network = ownNetwork(pod)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if failed != nil {
		return failed
	}
	wall := time.Since(from).Seconds()
	after, err := cpuSeconds()
	if err != nil {
		return err
	}
	r.add(t.name, cell+" pods per second", perSecond, float64(n)/wall)
	r.add(t.name, cell+" machine CPU per cycle", milliseconds, (after-busy)*1000/float64(n))
	if t.plugins == nil || !network {
		return nil
	}
	return t.plugins.addBeside(t.name, r, cell, cycles)
}

// ownNetwork says whether CNI plugins run for the pod.
func ownNetwork(pod *runtime.PodSandboxConfig) bool {
	return pod.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtime.NamespaceMode_POD
}

type timed struct {
	name string
	took time.Duration
}

// cycle is a pod's life as its client sees it.
type cycle struct {
	sandbox  string
	up, down time.Duration
	steps    []timed
}

// podCycle is one pod with one container that writes a line and waits; up is from
// the first request to the first byte of the log.
func podCycle(ctx context.Context, t *target, pod *runtime.PodSandboxConfig) (one cycle, err error) {
	begin := time.Now()
	at := begin
	lap := func(name string) {
		now := time.Now()
		one.steps = append(one.steps, timed{name, now.Sub(at)})
		at = now
	}
	// The log directory is there before the clock of "first byte" needs it.
	if err := os.MkdirAll(pod.LogDirectory, 0o755); err != nil {
		return one, err
	}
	sandbox, err := t.cri.RunPod(ctx, pod)
	if err != nil {
		return one, fmt.Errorf("run pod: %w", err)
	}
	lap("RunPodSandbox")
	c := harness.Container(pod, "c", t.image, "/bin/payload", "wait")
	id, err := t.cri.Create(ctx, sandbox, pod, c)
	if err != nil {
		return one, fmt.Errorf("create: %w", err)
	}
	lap("CreateContainer")
	started := time.Now()
	if err := t.cri.Start(ctx, id); err != nil {
		return one, fmt.Errorf("start: %w", err)
	}
	lap("StartContainer")
	seen, err := firstByte(ctx, harness.LogPath(pod, c))
	if err != nil {
		return one, err
	}
	one.sandbox, one.up = sandbox, seen.Sub(begin)
	one.steps = append(one.steps, timed{"first log byte after start", seen.Sub(started)}, timed{"pod up", one.up})
	down := time.Now()
	at = down
	if err := t.cri.Stop(ctx, id, 10); err != nil {
		return one, fmt.Errorf("stop: %w", err)
	}
	lap("StopContainer")
	if err := t.cri.Remove(ctx, id); err != nil {
		return one, fmt.Errorf("remove: %w", err)
	}
	lap("RemoveContainer")
	if err := t.cri.StopPod(ctx, sandbox); err != nil {
		return one, fmt.Errorf("stop pod: %w", err)
	}
	lap("StopPodSandbox")
	if err := t.cri.RemovePod(ctx, sandbox); err != nil { // it stops the pod once more, as kubelet does
		return one, fmt.Errorf("remove pod: %w", err)
	}
	lap("RemovePodSandbox")
	one.down = at.Sub(down)
	one.steps = append(one.steps, timed{"pod down", one.down}, timed{"cycle", one.up + one.down})
	return one, nil
}

// firstByte returns when the file first had content: by inotify, since polling would
// be part of what is measured. The time is taken before the watch is closed, which
// waits for a grace period of the kernel (fsnotify_destroy_group, some 10 ms).
func firstByte(ctx context.Context, path string) (time.Time, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return time.Time{}, err
	}
	defer unix.Close(fd)
	// The file exists once StartContainer has answered, in every runtime.
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		return time.Time{}, fmt.Errorf("watch %s: %w", path, err)
	}
	for buf := make([]byte, 4096); ; {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return time.Now(), nil
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 5000); err == nil && n == 0 {
			return time.Time{}, fmt.Errorf("%s stays empty", path)
		}
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
		unix.Read(fd, buf)
	}
}
