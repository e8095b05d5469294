package cgroup

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Bounds of Warm. The kernel leaves the state that is kept up about one grace
// period after the last write.
const (
	warmFor   = 100 * time.Millisecond
	warmEvery = 4 * time.Millisecond
)

// warmer is the one goroutine that all callers of Warm share.
type warmer struct {
	mu      sync.Mutex // guards wanted, running, closed
	wanted  []warmRequest
	running bool
	closed  bool
	done    sync.WaitGroup
}

type warmRequest struct {
	ctx   context.Context
	until time.Time
}

// Warm makes the next attach of a process to a cgroup cheap. The first one after a
// pause waits 10 to 15 ms for an RCU grace period (cgroup_threadgroup_rwsem, taken
// for writing); those that follow do not. So Warm attaches this process to the cgroup
// that it is in already, again and again, while the caller prepares the container.
// It returns at once and goes on until ctx ends, for 100 ms at most, because every
// fork on the host is a little slower meanwhile. It needs no success: where it cannot
// work, nothing is lost.
func (c *Cgroups) Warm(ctx context.Context) {
	if c.config.NoWarm {
		return
	}
	w := &c.warm
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.wanted = append(w.wanted, warmRequest{ctx, time.Now().Add(warmFor)})
	if !w.running {
		w.running = true
		w.done.Go(func() { w.run(c.ownDir) })
	}
}

func (w *warmer) run(ownDir func() string) {
	for w.stillWanted() {
		// Looked up each time: whoever moved this process meant it.
		dir := ownDir()
		if dir == "" || writeFile(dir, "cgroup.procs", "0") != nil {
			w.mu.Lock()
			w.wanted, w.running = nil, false
			w.mu.Unlock()
			return
		}
		time.Sleep(warmEvery)
	}
}

// stillWanted forgets requests that are over. When it returns false the goroutine
// counts as ended.
func (w *warmer) stillWanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.wanted = slices.DeleteFunc(w.wanted, func(r warmRequest) bool { return r.ctx.Err() != nil || now.After(r.until) })
	w.running = len(w.wanted) > 0 && !w.closed
	return w.running
}

func (w *warmer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.done.Wait()
}

// ownDir is a directory of a cgroup that this process is in: one of the cheap
// controllers on v1. Empty when it cannot be seen from here.
func (c *Cgroups) ownDir() string {
	own, err := ownCgroups()
	if err != nil {
		return ""
	}
	if c.Mode() == V2 {
		if path, ok := own[""]; ok && exists(filepath.Join(c.mounts.v2, path), "cgroup.procs") {
			return filepath.Join(c.mounts.v2, path)
		}
		return ""
	}
	for _, name := range []string{"pids", "cpu", "freezer", "memory"} {
		path, ok := own[name]
		if dir := c.dir(name, path); ok && dir != "" && exists(dir, "cgroup.procs") {
			return dir
		}
	}
	return ""
}
