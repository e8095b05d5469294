package cgroup

import (
	"fmt"
	"path"
	"strings"
	"unicode"

	"github.com/vitrine-runtime/vitrine/pod"
)

// placeName is the cgroup of monitors below the one that they are to count for. They
// need one of their own: a v2 cgroup whose children have controllers has no processes.
const placeName = "vitrine-monitors"

// CheckParent refuses, as pod.ErrInvalid, what is no parent for Place that an
// administrator could mean: neither the name of a slice (systemd.slice(5)) nor an absolute
// path in cgroupfs of names that cgroups can have, the root left out. Whether it can be
// made, Place finds out.
func CheckParent(parent string) error {
	refused := func(why string) error {
		return fmt.Errorf("%w: cgroup %.200q %s", pod.ErrInvalid, parent, why)
	}
	slice := strings.HasSuffix(parent, ".slice")
	if !slice && !strings.HasPrefix(parent, "/") {
		return refused("is neither a slice (NAME.slice) nor an absolute path")
	}
	if slice && !isSlice(path.Base(parent)) {
		return refused("is no name of a slice")
	}
	if path.Clean(parent) == "/" {
		return refused("is the root")
	}
	for name := range strings.SplitSeq(parent, "/") {
		switch {
		case name == "..":
			return refused("has .. on its way")
		case len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl):
			return refused(fmt.Sprintf("has a name of more than %d bytes or with control characters on its way", maxName))
		}
	}
	return nil
}

// maxName is NAME_MAX, in bytes.
const maxName = 255

// Place returns the directories, one of each hierarchy, of a cgroup for monitors below
// parent, and makes it where it does not exist. parent is what CRI's cgroup_parent is; one that
// no pod can have is pod.ErrInvalid. Repeating it is cheap.
func (c *Cgroups) Place(parent string) (dirs []string, err error) {
	fsPath := path.Join(c.PodPath(parent), placeName)
	if err := c.checkPath(fsPath); err != nil {
		return nil, err
	}
	c.made.Lock()
	defer c.made.Unlock()
	for _, root := range c.Dirs("/") {
		if _, err := c.makeDirs(root, fsPath); err != nil { // what was made is used next time
			return nil, fmt.Errorf("make cgroup %s for monitors: %w", fsPath, err)
		}
	}
	return c.Dirs(fsPath), nil
}

// RemovePlace removes what Place has made below parent; absence is success. Monitors that
// are ending are waited for as Remove does.
func (c *Cgroups) RemovePlace(parent string) error {
	fsPath := path.Join(c.PodPath(parent), placeName)
	if err := c.checkPath(fsPath); err != nil {
		return err
	}
	return c.removeDirs(fsPath)
}
