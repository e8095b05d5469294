package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// removeBound is for a killed container's processes to end, and for a shim to end.
const removeBound = 10 * time.Second

// remove ends the container, its shim, and removes what both keep. Absence is success.
func (t *task) remove() error {
	if _, err := os.Lstat(t.dir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	address, err := t.address()
	if err != nil && !errors.Is(err, os.ErrNotExist) { // without one nothing was ever created through it
		return fmt.Errorf("read the shim's address: %w", err)
	}
	if err == nil {
		err = t.removeThrough(address)
		if err != nil { // the shim is dead: its binary removes what it left
			if cleanErr := t.cleanUp(); cleanErr != nil && !errors.Is(cleanErr, os.ErrNotExist) {
				return fmt.Errorf("remove what a shim left: %w", errors.Join(cleanErr, err))
			}
		}
	}
	if path := strings.TrimPrefix(address, "unix://"); path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the shim's socket: %w", err)
		}
	}
	if err := os.RemoveAll(t.dir()); err != nil {
		return fmt.Errorf("remove the shim's bundle: %w", err)
	}
	return nil
}

// removeThrough asks the shim at address to remove its container and itself.
func (t *task) removeThrough(address string) error {
	told, err := t.call("Connect", t.ids(), removeBound)
	if err != nil && ignoreGone(err) != nil {
		return err
	}
	pid, _ := number(told, 1)
	if err := t.kill(uint64(unix.SIGKILL), true); err != nil {
		return err
	}
	deadline := time.Now().Add(removeBound)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_, err := t.call("Delete", t.ids(), callBound)
		if err = ignoreGone(err); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause) // it has not noticed the end yet
	}
	process := -1
	if pid > 0 {
		if process, err = unix.PidfdOpen(int(pid), 0); err == nil {
			defer unix.Close(process)
		}
	}
	// It may end before it has answered.
	_, _ = call(address, "Shutdown", t.ids(), removeBound)
	return endOf(process)
}

// endOf waits for the process behind a pidfd to end, and ends it when it does not.
func endOf(pidfd int) error {
	if pidfd < 0 {
		return nil
	}
	if hasEnded(pidfd, removeBound) {
		return nil
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the shim: %w", err)
	}
	if !hasEnded(pidfd, removeBound) {
		return fmt.Errorf("end the shim: it still runs %v after SIGKILL", removeBound)
	}
	return nil
}

func hasEnded(pidfd int, bound time.Duration) bool {
	return pollFor(pidfd, unix.POLLIN, bound)
}

// pollFor waits until fd has one of the events.
func pollFor(fd int, events int16, bound time.Duration) bool {
	for deadline := time.Now().Add(bound); ; {
		left := time.Until(deadline)
		if left < 0 {
			return false
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: events &^ unix.POLLHUP}}
		n, err := unix.Poll(poll, int(left.Milliseconds())+1)
		if n > 0 && poll[0].Revents&(events|unix.POLLERR) != 0 {
			return true
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return true // nothing to wait for
		}
	}
}

// cleanUp runs the shim's binary to remove what a shim left that died.
func (t *task) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), callBound)
	defer cancel()
	out, err := t.command(ctx, "-bundle", t.dir(), "delete").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %.200s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
