package cgroup

import (
	"fmt"
	"strings"
)

// Feature is one line of `vitrine check`.
type Feature struct {
	// Name is what is looked for.
	Name string
	OK   bool
	// Consequence is what follows for pods, in one sentence: what works if OK, what
	// does not otherwise.
	Consequence string
}

// Features says what this host's cgroups can and cannot do.
func Features() []Feature {
	c, err := New(Config{})
	if err != nil {
		return []Feature{{"cgroups", false, "no pod can be run: " + err.Error()}}
	}
	defer c.Close()
	features := []Feature{
		{"cgroup " + c.Mode().String(), true, "hierarchies: " + c.describe()},
		{"cgroup driver systemd", systemdRuns(), choose(systemdRuns(), "scopes and slices are systemd's", "no systemd here: kubelet must use the driver cgroupfs, too")},
	}
	for _, need := range []struct{ controller, with, without string }{
		{"memory", "memory limits and statistics work", "memory limits are refused, OOM verdicts lack their evidence"},
		{"cpu", "CPU weights and quotas work", "CPU limits are refused"},
		{"cpuset", "containers can be pinned to CPUs", "CPU pinning is refused"},
		{"pids", "the number of processes can be limited", "a fork bomb is stopped by the host's own limit only"},
		{"hugetlb", "huge page limits work", "huge page limits are ignored"},
	} {
		ok := c.hasController(need.controller)
		features = append(features, Feature{"cgroup controller " + need.controller, ok, choose(ok, need.with, need.without)})
	}
	io := c.hasController("io") || c.hasController("blkio")
	freeze := c.Mode() == V2 || c.hasController("freezer")
	killFile := c.Mode() == V2 && c.hasKillFile()
	return append(features,
		Feature{"cgroup controller io", io, choose(io, "block I/O is accounted", "block I/O statistics are missing")},
		Feature{"cgroup devices", c.Mode() == V2 || c.hasController("devices"),
			choose(c.Mode() == V2 || c.hasController("devices"), "device access is restricted", "unprivileged containers cannot be made")},
		Feature{"swap accounting", c.SwapAccounting(), choose(c.SwapAccounting(), "swap is limited and accounted", "swap limits are ignored")},
		Feature{"cgroup freezer", freeze, choose(freeze, "processes are stopped before they are killed", "a forking container is killed in several rounds")},
		Feature{"cgroup.kill", killFile, choose(killFile, "a container is killed by one write", "a container is killed process by process (needs cgroup v2, Linux 5.14)")},
		Feature{"pressure stall information", c.hasPSI(), choose(c.hasPSI(), "pressure is reported per container", "pressure is not reported per container (needs a v2 hierarchy and CONFIG_PSI)")},
	)
}

func choose(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

func (c *Cgroups) describe() string {
	if c.Mode() == V2 {
		list, _ := readFile(c.mounts.v2, "cgroup.controllers")
		return fmt.Sprintf("%s with %s", c.mounts.v2, strings.TrimSpace(list))
	}
	return strings.Join(c.mounts.controllers(), ", ")
}

// hasKillFile looks into a cgroup below the root, which has no such file itself.
func (c *Cgroups) hasKillFile() bool {
	below, _ := subdirs(c.mounts.v2)
	return len(below) > 0 && exists(c.mounts.v2+"/"+below[0], "cgroup.kill")
}

func (c *Cgroups) hasPSI() bool {
	psi, err := readPSI("/proc/pressure", "memory")
	return c.unifiedDir("/") != "" && err == nil && psi != nil
}
