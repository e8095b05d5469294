package cgroup

import (
	"context"
	"fmt"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Freeze stops all processes of a cgroup and returns when they are stopped. On an error,
// the end of ctx included, they run. A cgroup that cannot be frozen is pod.ErrUnsupported.
func (c *Cgroups) Freeze(ctx context.Context, fsPath string) error {
	if err := c.checkPath(fsPath); err != nil {
		return err
	}
	f := c.freezerOf(fsPath)
	if f.dir == "" {
		return fmt.Errorf("freeze cgroup %s: %w: there is no freezer", fsPath, pod.ErrUnsupported)
	}
	for !f.freeze() { // it gives up after a moment
		err := context.Cause(ctx)
		if !exists(f.dir, "cgroup.procs") {
			err = pod.ErrNotFound
		}
		if err != nil {
			f.thaw()
			return fmt.Errorf("freeze cgroup %s: %w: processes are not stopped yet", fsPath, err)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Thaw lets the processes of a cgroup go on. A cgroup that does not exist, or whose
// processes are not stopped, is success.
func (c *Cgroups) Thaw(fsPath string) error {
	if err := c.checkPath(fsPath); err != nil {
		return err
	}
	f := c.freezerOf(fsPath)
	deadline := time.Now().Add(freezeWait)
	for f.dir != "" && exists(f.dir, "cgroup.procs") {
		f.thaw()
		if !f.frozen(f.dir) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("thaw cgroup %s: %w: it stays frozen; a cgroup above it may be frozen", fsPath, pod.ErrState)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
