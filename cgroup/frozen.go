package cgroup

import (
	"fmt"
	"strings"
)

// Frozen says whether the processes of a cgroup stand still because somebody froze it or
// one above it, and whether it was it itself: the file cgroup.freeze or freezer.state
// (kernel Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/freezer-subsystem.rst).
// Where there is no freezer nothing is frozen.
func (c *Cgroups) Frozen(fsPath string) (frozen, itself bool, err error) {
	dir := c.dir("freezer", fsPath)
	if dir == "" {
		return false, false, nil
	}
	if c.Mode() == V2 {
		events, err := readKeys(dir, "cgroup.events")
		if err != nil {
			return false, false, fmt.Errorf("ask whether cgroup %s is frozen: %w", fsPath, err)
		}
		own, _ := told(dir, "cgroup.freeze")
		return events["frozen"] == 1, own == 1, nil
	}
	state, err := readFile(dir, "freezer.state")
	if err != nil {
		return false, false, fmt.Errorf("ask whether cgroup %s is frozen: %w", fsPath, err)
	}
	own, _ := told(dir, "freezer.self_freezing")
	return strings.TrimSpace(state) != "THAWED", own == 1, nil
}
