package cgroup

import (
	"fmt"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Resources are limits to be set. A zero field leaves what is in force; -1 means
// none where a field is signed.
type Resources struct {
	// CPUShares is v1's relative weight, 2 to 262144; converted on v2.
	CPUShares uint64
	// CPUPeriod and CPUQuota are microseconds; quota of CPU time per period.
	CPUPeriod uint64
	CPUQuota  int64
	// CpusetCpus and CpusetMems are lists such as 0-2,5.
	CpusetCpus, CpusetMems string
	// Memory is the limit in bytes; MemorySwap the limit of memory and swap
	// together. With Memory alone the container keeps the swap that it may use.
	Memory, MemorySwap int64
	// Pids bounds the number of tasks.
	Pids int64
	// Hugepages bounds huge pages by size, in bytes. Sizes that cannot be limited
	// on this host are left out.
	Hugepages map[string]uint64
	// Unified are v2 files and their values, which win over the fields above.
	Unified map[string]string
}

func (r Resources) check() error {
	switch {
	case r.CPUQuota < -1, r.Memory < -1, r.MemorySwap < -1, r.Pids < -1:
		return fmt.Errorf("%w: a limit below -1: %+v", pod.ErrInvalid, r)
	case r.MemorySwap > 0 && (r.Memory > r.MemorySwap || r.Memory == -1):
		return fmt.Errorf("%w: limit %d of memory and swap is below the memory limit %d", pod.ErrInvalid, r.MemorySwap, r.Memory)
	}
	return nil
}
