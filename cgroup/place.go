package cgroup

import (
	"fmt"
	"path"
)

// placeName is the cgroup of monitors below the one that they are to count for. They
// need one of their own: a v2 cgroup whose children have controllers has no processes.
const placeName = "vitrine-monitors"

// Place returns the directories, one of each hierarchy, of a cgroup for monitors below
// parent, and makes it where it does not exist. parent is what CRI's cgroup_parent is.
// Repeating it is cheap.
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
