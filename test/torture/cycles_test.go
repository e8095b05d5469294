package torture

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestCyclesLeaveNothing(t *testing.T) {
	d, image := start(t)
	// The first pods grow pools and load what is loaded once; the census is of after.
	runCycles(t, d, image, *parallel)
	before := harness.Must(d.Census())(t)
	from := time.Now()
	runCycles(t, d, image, *cycles)
	t.Logf("%d cycles, %d at a time, in %v: %.1f per second", *cycles, *parallel, time.Since(from).Round(time.Millisecond), float64(*cycles)/time.Since(from).Seconds())
	t.Logf("before: %s %v", before.Summary(), before.Counts)
	harness.NothingLeft(t, d, before)
	after := harness.Must(d.Census())(t)
	t.Logf("after:  %s %v", after.Summary(), after.Counts)
}

// runCycles runs n cycles, parallel at a time. The first error of a cycle is the
// test's; its pod is then removed, so that the census tells leaks from debris.
func runCycles(t *testing.T, d *harness.Daemon, image string, n int) {
	t.Helper()
	cri := d.Client(t)
	ctx := harness.Context(t, time.Hour)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range *parallel {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := cycle(ctx, d, cri, image); err != nil {
					t.Errorf("cycle %d: %v", i, err)
					return
				}
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		cri.RemoveAll(ctx)
		t.FailNow()
	}
}

// cycle is a pod's life with everything that a kubelet and its user do to it: an
// init container, two containers, log, exec, streams, stats, stop, removal.
func cycle(ctx context.Context, d *harness.Daemon, cri *harness.CRI, image string) (err error) {
	pod := d.Pod("cycle")
	sandbox, err := cri.RunPod(ctx, pod)
	if err != nil {
		return fmt.Errorf("run pod: %w", err)
	}
	init := harness.Container(pod, "init", image, "/bin/sh", "-c", "echo prepared")
	id, err := cri.Run(ctx, sandbox, pod, init)
	if err != nil {
		return fmt.Errorf("run init container: %w", err)
	}
	if s, err := cri.WaitExit(ctx, id); err != nil || s.ExitCode != 0 {
		return fmt.Errorf("init container: %v, %w", s, err)
	}
	if log, err := harness.ReadLog(harness.LogPath(pod, init)); err != nil || string(log.Stdout) != "prepared\n" {
		return fmt.Errorf("log of the init container: %q, %w", log.Stdout, err)
	}
	config := harness.Container(pod, "server", image, "/bin/sh", "-c", "/bin/payload serve 7777 & exec cat")
	config.Stdin = true
	server, err := cri.Run(ctx, sandbox, pod, config)
	if err != nil {
		return fmt.Errorf("run server: %w", err)
	}
	config = harness.Container(pod, "waiter", image, "/bin/payload", "wait")
	waiter, err := cri.Run(ctx, sandbox, pod, config)
	if err != nil {
		return fmt.Errorf("run waiter: %w", err)
	}
	if err := harness.AwaitLog(ctx, harness.LogPath(pod, config), "waiting"); err != nil { // before that, SIGTERM is not its own to handle
		return err
	}
	if r, err := cri.Exec(ctx, waiter, 30, "/bin/sh", "-c", "echo hello; exit 3"); err != nil || r.ExitCode != 3 || string(r.Stdout) != "hello\n" {
		return fmt.Errorf("exec: %v, %w", r, err)
	}
	if err := streams(ctx, cri, sandbox, server); err != nil {
		return err
	}
	if _, err := cri.PodSandboxStats(ctx, &runtime.PodSandboxStatsRequest{PodSandboxId: sandbox}); err != nil {
		return fmt.Errorf("stats: %w", err)
	}
	if err := cri.Stop(ctx, waiter, 10); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if s, err := cri.Status(ctx, waiter); err != nil || s.ExitCode != 0 {
		return fmt.Errorf("stopped container: %v, %w", s, err)
	}
	if err := cri.Remove(ctx, waiter); err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	if err := cri.RemovePod(ctx, sandbox); err != nil {
		return fmt.Errorf("remove pod: %w", err)
	}
	return nil
}
