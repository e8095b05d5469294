package cgroup

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vitrine-runtime/vitrine/pod"
)

// OOMCounts is what a cgroup itself counted of the OOM killer's work.
type OOMCounts struct {
	// Kills counts the processes that were killed; on v2 also in the cgroups below.
	Kills uint64
	// GroupKills counts the times that all processes of exactly this cgroup were killed
	// together (memory.oom.group, v2 since Linux 5.17).
	GroupKills uint64
	// PeakTasks is the largest number of tasks there ever was (pids.peak, since Linux
	// 6.6); 0 is not known.
	PeakTasks uint64
}

// OOMCounts reads the counters. It is pod.ErrNotFound for a cgroup that is gone and
// pod.ErrUnsupported where the kernel does not count kills.
func (c *Cgroups) OOMCounts(fsPath string) (OOMCounts, error) {
	main, file := c.mainDir(fsPath), "memory.oom_control"
	if c.Mode() == V2 {
		file = "memory.events"
	}
	keys, err := readKeys(main, file)
	if errors.Is(err, fs.ErrNotExist) {
		return OOMCounts{}, gone(fsPath)
	}
	if err != nil {
		return OOMCounts{}, fmt.Errorf("count OOM kills of cgroup %s: %w", fsPath, err)
	}
	if !has(keys, "oom_kill") {
		return OOMCounts{}, fmt.Errorf("count OOM kills of cgroup %s: %w: %s has no oom_kill", fsPath, pod.ErrUnsupported, file)
	}
	counts := OOMCounts{Kills: keys["oom_kill"]}
	if c.Mode() == V2 {
		local, _ := readKeys(main, "memory.events.local")
		counts.GroupKills = local["oom_group_kill"]
	}
	if dir := c.dir("pids", fsPath); dir != "" {
		counts.PeakTasks, _ = told(dir, "pids.peak")
	}
	return counts, nil
}

// OOMKillsBelow counts the processes that were killed in the cgroup and in those below it,
// also in those that are gone. It is pod.ErrUnsupported where a kill counts in its own
// cgroup alone: with v1, and when v2 is mounted with memory_localevents
// (https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting).
func (c *Cgroups) OOMKillsBelow(fsPath string) (uint64, error) {
	if c.Mode() != V2 || c.mounts.localEvents {
		return 0, fmt.Errorf("count OOM kills below cgroup %s: %w: the kernel counts them in their own cgroup alone", fsPath, pod.ErrUnsupported)
	}
	counts, err := c.OOMCounts(fsPath)
	return counts.Kills, err
}

// MakeContainer makes the memory cgroup of a container before its runtime does, so that
// it can be observed from the first process on, and returns its id. The runtime finds it
// empty and takes it over. It is pod.ErrUnsupported with the systemd driver, where the
// scope is systemd's to make.
func (c *Cgroups) MakeContainer(fsPath string) (uint64, error) {
	if c.Driver() == Systemd {
		return 0, fmt.Errorf("make cgroup %s: %w: systemd makes it", fsPath, pod.ErrUnsupported)
	}
	if err := c.checkPath(fsPath); err != nil {
		return 0, err
	}
	root := c.dir("memory", "/")
	if root == "" {
		return 0, fmt.Errorf("make cgroup %s: %w: no memory controller", fsPath, pod.ErrUnsupported)
	}
	c.made.Lock()
	defer c.made.Unlock()
	if _, err := c.makeDirs(root, fsPath); err != nil {
		return 0, fmt.Errorf("make cgroup %s: %w", fsPath, err)
	}
	return c.ID(fsPath)
}
