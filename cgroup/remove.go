package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// removeWait bounds how long Remove waits for killed processes to be gone from a
// cgroup.
const removeWait = 3 * time.Second

// Remove removes a cgroup and those below it from every hierarchy; absence is
// success. It kills nobody: a cgroup that still has processes after 3 seconds is
// pod.ErrUnavailable. The default parent goes with its last cgroup.
func (c *Cgroups) Remove(fsPath string) error {
	if err := c.checkPath(fsPath); err != nil {
		return err
	}
	var errs []error
	if c.Driver() == Systemd {
		errs = append(errs, c.stopUnit(fsPath))
	}
	errs = append(errs, c.removeDirs(fsPath))
	c.kept.drop(fsPath) // after the removal: a reading now finds nothing that it could keep
	if path.Dir(path.Clean("/"+fsPath)) == DefaultParent {
		c.kept.drop(DefaultParent)
		c.made.Lock()
		for _, dir := range c.Dirs(DefaultParent) {
			_ = unix.Rmdir(dir) // others may be in it
		}
		c.made.Unlock()
	}
	return errors.Join(errs...)
}

// removeDirs removes a cgroup from every hierarchy within removeWait together.
func (c *Cgroups) removeDirs(fsPath string) error {
	var errs []error
	deadline := time.Now().Add(removeWait)
	for _, dir := range c.Dirs(fsPath) {
		if err := removeTree(dir, deadline); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", fsPath, err))
		}
	}
	return errors.Join(errs...)
}

// Forget closes what readings of a cgroup have left open, for one that somebody else
// removes, as kubelet does a pod's.
func (c *Cgroups) Forget(fsPath string) { c.kept.drop(fsPath) }

// removeTree tries again for as long as the kernel says EBUSY: a process that has
// been killed leaves its cgroup a little later.
func removeTree(dir string, deadline time.Time) error {
	for pause := 100 * time.Microsecond; ; pause = min(pause*2, 50*time.Millisecond) {
		err := removeOnce(dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if time.Now().After(deadline) {
			pids, _ := procsBelow(dir)
			return fmt.Errorf("%s still has processes %v: %w", dir, head(pids, 5), pod.ErrUnavailable)
		}
		time.Sleep(pause)
	}
}

// removeOnce removes bottom-up. A cgroup that is made meanwhile keeps its parents
// and looks like EBUSY.
func removeOnce(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	below, listErr := subdirs(dir)
	if errors.Is(listErr, fs.ErrNotExist) {
		return nil
	}
	if listErr != nil {
		return listErr
	}
	if len(below) == 0 {
		return err
	}
	var errs []error
	for _, name := range below {
		errs = append(errs, removeOnce(dir+"/"+name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func head(pids []int, n int) []int { return pids[:min(n, len(pids))] }
