package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// CreatePod makes the cgroup of a pod unless it exists: kubelet makes its own. made
// says that it did; only then is it the caller's to Remove. Limits are set on a cgroup
// that was made, and only then. On failure nothing is left.
func (c *Cgroups) CreatePod(_ context.Context, parent string, limits Resources) (made bool, err error) {
	if c.Driver() == Systemd {
		if err := checkSlices(parent); err != nil {
			return false, err
		}
	}
	fsPath := c.PodPath(parent)
	if err := c.checkPath(fsPath); err != nil {
		return false, err
	}
	c.made.Lock()
	defer c.made.Unlock()
	if _, err := os.Lstat(c.mainDir(fsPath)); err == nil {
		return false, nil
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for _, step := range slices.Backward(undo) {
				err = errors.Join(err, step())
			}
			made = false
		}
	}()
	if c.Driver() == Systemd {
		if err := c.startSlice(fsPath); err != nil {
			return false, err
		}
		undo = append(undo, func() error { return c.stopUnit(fsPath) })
	}
	for _, root := range c.Dirs("/") {
		created, err := c.makeDirs(root, fsPath)
		for _, dir := range created {
			undo = append(undo, func() error { return ignoreAbsent(unix.Rmdir(dir)) })
		}
		if err != nil {
			return false, fmt.Errorf("create cgroup %s: %w", fsPath, err)
		}
	}
	return true, c.Update(fsPath, limits)
}

// makeDirs makes the path below root and returns what did not exist, parents first.
func (c *Cgroups) makeDirs(root, fsPath string) (created []string, err error) {
	dir := root
	for element := range strings.SplitSeq(strings.TrimPrefix(fsPath, "/"), "/") {
		if c.Mode() == V2 {
			enableControllers(dir)
		}
		parent := dir
		dir = filepath.Join(dir, element)
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return created, err
		}
		created = append(created, dir)
		if root == c.mounts.v1["cpuset"] {
			if err := inheritCPUSet(parent, dir); err != nil {
				return created, err
			}
		}
	}
	return created, nil
}

// enableControllers gives the children of a v2 cgroup every controller it has
// itself. One that cannot be given (no permission, or a process lives here) will be
// missed by whoever sets a limit.
func enableControllers(dir string) {
	available, err := readFile(dir, "cgroup.controllers")
	if err != nil {
		return
	}
	enabled, _ := readFile(dir, "cgroup.subtree_control")
	for _, name := range strings.Fields(available) {
		if !slices.Contains(strings.Fields(enabled), name) {
			_ = writeFile(dir, "cgroup.subtree_control", "+"+name)
		}
	}
}

// inheritCPUSet fills what v1 leaves empty in a new cpuset, into which no process
// could move otherwise.
func inheritCPUSet(parent, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := readFile(dir, name)
		if err != nil {
			return err
		}
		if strings.TrimSpace(own) != "" {
			continue
		}
		value, err := readFile(parent, name)
		if err != nil {
			return err
		}
		if err := writeFile(dir, name, strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
