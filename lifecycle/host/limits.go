package host

import (
	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Limits are the resources in the cgroup room's words, checked and cut to what the
// host can do as those of a new container are; zero for nil. Errors are spec.Resources'.
func (h Host) Limits(res *pod.Resources) (cgroup.Resources, error) {
	var limits cgroup.Resources
	if res == nil {
		return limits, nil
	}
	r, err := spec.Resources(res.LinuxContainerResources, h.Facts, h.Defaults, h.Warn)
	if err != nil || r == nil {
		return limits, err
	}
	if cpu := r.CPU; cpu != nil {
		limits.CPUShares, limits.CPUPeriod, limits.CPUQuota = value(cpu.Shares), value(cpu.Period), value(cpu.Quota)
		limits.CpusetCpus, limits.CpusetMems = cpu.Cpus, cpu.Mems
	}
	if memory := r.Memory; memory != nil {
		limits.Memory, limits.MemorySwap = value(memory.Limit), value(memory.Swap)
	}
	if r.Pids != nil {
		limits.Pids = value(r.Pids.Limit)
	}
	for _, page := range r.HugepageLimits {
		if limits.Hugepages == nil {
			limits.Hugepages = map[string]uint64{}
		}
		limits.Hugepages[page.Pagesize] = page.Limit
	}
	limits.Unified = r.Unified
	return limits, nil
}

// value is what p points to, zero for nil.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
