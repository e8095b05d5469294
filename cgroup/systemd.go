package cgroup

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
)

// unit is the manager of the systemd unit at fsPath: a container's scope, which the
// runtime made, or a pod's slice. Whoever runs under systemd has its limits written
// by systemd, which would otherwise put back its own at the next reload.
func (c *Cgroups) unit(fsPath string, r *cgroups.Resources) (cgroups.Manager, error) {
	name, parent := path.Base(fsPath), path.Base(path.Dir(fsPath))
	config := &cgroups.Cgroup{Name: name, Systemd: true, Resources: r}
	if strings.HasSuffix(parent, ".slice") {
		config.Parent = parent
	}
	if stem, ok := strings.CutSuffix(name, ".scope"); ok {
		config.ScopePrefix, config.Name, _ = strings.Cut(stem, "-")
	}
	paths := map[string]string{}
	if c.Mode() == V2 {
		paths[""] = c.dir("", fsPath)
	} else {
		for controller := range c.mounts.v1 {
			paths[controller] = c.dir(controller, fsPath)
		}
		if dir := c.unifiedDir(fsPath); dir != "" {
			paths[""] = dir
		}
	}
	m, err := manager.NewWithPaths(config, paths)
	if err != nil {
		return nil, fmt.Errorf("systemd unit %s: %w", name, err)
	}
	return m, nil
}

// updateUnit has systemd set the limits, and puts the files and the unit back to
// what they held when that fails. steps are the plan, which says which files.
func (c *Cgroups) updateUnit(fsPath string, r Resources, steps []step) error {
	before := snapshot(steps)
	m, err := c.unit(fsPath, &cgroups.Resources{SkipDevices: true})
	if err != nil {
		return err
	}
	if err := m.Set(managed(r)); err != nil {
		return errors.Join(err, m.Set(c.previous(before)), writeBack(before))
	}
	return nil
}

func snapshot(steps []step) []step {
	var before []step
	for _, s := range steps {
		if old, err := readFile(s.dir, s.file); err == nil {
			before = append(before, step{s.dir, s.file, strings.TrimSuffix(old, "\n"), false})
		}
	}
	return before
}

// managed are the limits in the words of the manager.
func managed(r Resources) *cgroups.Resources {
	m := &cgroups.Resources{
		CpuShares: r.CPUShares, CpuPeriod: r.CPUPeriod, CpuQuota: r.CPUQuota,
		CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Memory: r.Memory, MemorySwap: r.MemorySwap,
		Unified: r.Unified, SkipDevices: true, SkipFreezeOnSet: true,
	}
	if r.CPUShares != 0 {
		m.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares)
	}
	if r.Pids != 0 {
		m.PidsLimit = &r.Pids
	}
	for size, limit := range r.Hugepages {
		m.HugetlbLimit = append(m.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: size, Limit: limit})
	}
	return m
}

// previous turns what files held into limits that make systemd put its properties
// back. v2 files speak for themselves.
func (c *Cgroups) previous(files []step) *cgroups.Resources {
	m := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true}
	if c.Mode() == V2 {
		m.Unified = map[string]string{}
		for _, s := range files {
			if s.value != "" && !strings.Contains(s.value, "\n") {
				m.Unified[s.file] = s.value
			}
		}
		return m
	}
	for _, s := range files {
		n, err := strconv.ParseInt(s.value, 10, 64)
		if err != nil || n >= unlimited {
			n = -1
		}
		switch s.file {
		case "cpu.shares":
			m.CpuShares = uint64(max(n, 0))
		case "cpu.cfs_period_us":
			m.CpuPeriod = uint64(max(n, 0))
		case "cpu.cfs_quota_us":
			m.CpuQuota = n
		case "memory.limit_in_bytes":
			m.Memory = n
		case "memory.memsw.limit_in_bytes":
			m.MemorySwap = n
		case "pids.max":
			m.PidsLimit = &n
		case "cpuset.cpus":
			m.CpusetCpus = s.value
		case "cpuset.mems":
			m.CpusetMems = s.value
		}
	}
	return m
}

// startSlice asks systemd for a pod's slice.
func (c *Cgroups) startSlice(fsPath string) error {
	m, err := c.unit(fsPath, &cgroups.Resources{SkipDevices: true})
	if err != nil {
		return err
	}
	if err := m.Apply(-1); err != nil {
		return fmt.Errorf("start systemd unit %s: %w", path.Base(fsPath), err)
	}
	return nil
}

// stopUnit tells systemd that a scope or slice is over. Other paths are none of
// systemd's.
func (c *Cgroups) stopUnit(fsPath string) error {
	if name := path.Base(fsPath); !strings.HasSuffix(name, ".scope") && !strings.HasSuffix(name, ".slice") {
		return nil
	}
	m, err := c.unit(fsPath, &cgroups.Resources{SkipDevices: true})
	if err != nil {
		return err
	}
	if err := m.Destroy(); err != nil {
		return fmt.Errorf("stop systemd unit %s: %w", path.Base(fsPath), err)
	}
	return nil
}
