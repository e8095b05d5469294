package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// each does what is said of n things at once.
func each(n int, do func(int) error) error {
	errs := make([]error, n)
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() { errs[i] = do(i) })
	}
	workers.Wait()
	return errors.Join(errs...)
}

// processEnds sleeps until a process has ended, and looks meanwhile, ten times a second. Asking
// every few milliseconds whether it has would take processor time from those who are measured,
// and more from who takes longer.
func processEnds(ctx context.Context, pid int, look func()) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		look()
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
	}
	return ctx.Err()
}

// containerEnds sleeps until a container's init has ended, and asks from then on until the
// runtime says so, too.
func containerEnds(ctx context.Context, cri *harness.CRI, id string) error {
	r, err := cri.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return err
	}
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil {
		return fmt.Errorf("process of container %.13s: %w", id, err)
	}
	if r.Status.State == runtime.ContainerState_CONTAINER_RUNNING && info.Pid > 0 {
		if err := processEnds(ctx, info.Pid, func() {}); err != nil {
			return err
		}
	}
	return soon(ctx, "the container ends", func() (bool, error) {
		s, err := cri.Status(ctx, id)
		if err != nil || s.State != runtime.ContainerState_CONTAINER_EXITED {
			return false, err
		}
		if s.ExitCode != 0 {
			err = fmt.Errorf("container %.13s ended with %d", id, s.ExitCode)
		}
		return true, err
	})
}

// soon polls, finely: what is timed ends with it.
func soon(ctx context.Context, what string, ok func() (bool, error)) error {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if there, err := ok(); there || err != nil {
			return err
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("did not happen: %s: %w", what, ctx.Err())
		}
	}
}
