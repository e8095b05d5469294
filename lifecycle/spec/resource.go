package spec

import (
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// DefaultMinMemory is the lowest memory limit that is accepted: with less, the
// runtime's own init does not live until the program's first instruction.
const DefaultMinMemory = 12 << 20

// maxCPUShares is the kernel's highest (MAX_SHARES of kernel/sched), and kubelet's.
const maxCPUShares = 1 << 18

// Bounds of the kernel's CPU bandwidth control in microseconds.
const (
	minCPUQuota  = 1000
	minCPUPeriod = 1000
	maxCPUPeriod = 1000000
)

func (b *builder) resources() error {
	request := b.Container.GetLinux().GetResources()
	r, err := Resources(request, b.Host, b.Defaults, b.Warn)
	if err != nil {
		return err
	}
	r.Devices = b.spec.Linux.Resources.Devices
	b.spec.Linux.Resources = r
	adj, err := OOMScoreAdj(request.GetOomScoreAdj(), b.Host, b.Warn)
	if err != nil {
		return err
	}
	b.spec.Process.OOMScoreAdj = &adj
	return nil
}

// Resources translates CRI's limits; what is zero there is nil here. It is used for
// new containers and for updates. Only limits are set, never device rules. warn may
// be nil.
func Resources(request *runtime.LinuxContainerResources, host HostFacts, defaults Defaults, warn func(string, ...any)) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	var err error
	if r.CPU, err = cpuResources(request); err != nil {
		return nil, err
	}
	if r.Memory, err = memoryResources(request, host, defaults); err != nil {
		return nil, err
	}
	if r.HugepageLimits, err = hugepageLimits(request.GetHugepageLimits(), host, warn); err != nil {
		return nil, err
	}
	if r.Unified, err = unified(request.GetUnified(), host); err != nil {
		return nil, err
	}
	if limit := defaults.PidsLimit; limit > 0 {
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return r, nil
}

func cpuResources(request *runtime.LinuxContainerResources) (*specs.LinuxCPU, error) {
	period, quota, shares := request.GetCpuPeriod(), request.GetCpuQuota(), request.GetCpuShares()
	cpu := specs.LinuxCPU{Cpus: request.GetCpusetCpus(), Mems: request.GetCpusetMems()}
	if period != 0 {
		if period < minCPUPeriod || period > maxCPUPeriod {
			return nil, invalid("cpu_period: %d is not between %d and %d", period, minCPUPeriod, maxCPUPeriod)
		}
		p := uint64(period)
		cpu.Period = &p
	}
	if quota != 0 {
		if quota != -1 && quota < minCPUQuota {
			return nil, invalid("cpu_quota: %d is neither -1 nor at least %d", quota, minCPUQuota)
		}
		cpu.Quota = &quota
	}
	if shares != 0 {
		if shares < 0 || shares > maxCPUShares {
			return nil, invalid("cpu_shares: %d is not between 0 and %d", shares, maxCPUShares)
		}
		s := max(uint64(shares), 2) // the kernel's lowest
		cpu.Shares = &s
	}
	for _, set := range [][2]string{{"cpuset_cpus", cpu.Cpus}, {"cpuset_mems", cpu.Mems}} {
		if !isCPUList(set[1]) {
			return nil, invalid("%s: %.80q is not a list such as 0-2,5", set[0], set[1])
		}
	}
	if cpu == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &cpu, nil
}

// isCPUList accepts the kernel's list format (Documentation/admin-guide/cgroup-v1/cpusets.rst)
// of plain numbers and ranges, and nothing.
func isCPUList(s string) bool {
	if s == "" {
		return true
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		low, ok := decimal(from, math.MaxInt32)
		if !ok {
			return false
		}
		if high, ok := decimal(to, math.MaxInt32); isRange && (!ok || high < low) {
			return false
		}
	}
	return true
}

func memoryResources(request *runtime.LinuxContainerResources, host HostFacts, defaults Defaults) (*specs.LinuxMemory, error) {
	limit, swap := request.GetMemoryLimitInBytes(), request.GetMemorySwapLimitInBytes()
	if limit == 0 {
		if swap > 0 {
			return nil, invalid("memory_swap_limit_in_bytes: %d needs a memory_limit_in_bytes, too", swap)
		}
		return nil, nil
	}
	lowest := defaults.MinMemory
	if lowest == 0 {
		lowest = DefaultMinMemory
	}
	if limit != -1 && limit < max(lowest, 0) {
		return nil, invalid("memory limit %d below runtime minimum %d", limit, lowest)
	}
	memory := &specs.LinuxMemory{Limit: &limit}
	switch {
	case !host.SwapAccounting:
	case swap == 0: // no swap, rather than as much again as v1 would give
		memory.Swap = &limit
	case swap != -1 && (limit == -1 || swap < limit):
		return nil, invalid("memory_swap_limit_in_bytes: %d is below the memory limit %d, which it includes", swap, limit)
	default:
		memory.Swap = &swap
	}
	return memory, nil
}

// hugepageLimits are ignored where the host has no hugetlb controller: kubelet
// sends them for every container.
func hugepageLimits(request []*runtime.HugepageLimit, host HostFacts, warn func(string, ...any)) ([]specs.LinuxHugepageLimit, error) {
	var limits []specs.LinuxHugepageLimit
	for _, h := range request {
		size := h.GetPageSize()
		if !isPageSize(size) {
			return nil, invalid("hugepage_limits.page_size: %.40q is not a size such as 2MB", size)
		}
		switch {
		case slices.Contains(host.HugepageSizes, size):
			limits = append(limits, specs.LinuxHugepageLimit{Pagesize: size, Limit: h.GetLimit()})
		case len(host.HugepageSizes) > 0 && h.GetLimit() > 0:
			return nil, invalid("hugepage_limits.page_size: this host has no huge pages of %s, only of %s", size, strings.Join(host.HugepageSizes, ", "))
		case len(host.HugepageSizes) == 0 && warn != nil:
			warn("hugepage limit ignored: no hugetlb controller", "pageSize", size, "limit", h.GetLimit())
		}
	}
	return limits, nil
}

func isPageSize(s string) bool {
	number, ok := strings.CutSuffix(s, "B")
	if !ok || number == "" {
		return false
	}
	if strings.IndexByte("KMGT", number[len(number)-1]) >= 0 {
		number = number[:len(number)-1]
	}
	n, ok := decimal(number, math.MaxInt32)
	return ok && n > 0
}

// unified passes cgroup v2 files through, which win over the fields above. Files of
// the cgroup core (cgroup.*) are not resources: they could move or kill processes.
func unified(request map[string]string, host HostFacts) (map[string]string, error) {
	if len(request) == 0 {
		return nil, nil
	}
	if !host.CgroupV2 {
		return nil, unsupported("unified: cgroup v2 files cannot be set on this host, which uses cgroup v1")
	}
	out := make(map[string]string, len(request))
	for key, value := range request {
		if controller, _, ok := strings.Cut(key, "."); !ok || controller == "" || controller == "cgroup" || strings.ContainsAny(key, "/\x00\n") {
			return nil, invalid("unified: %.80q is not a controller's file", key)
		}
		if hasNUL(value) || strings.HasPrefix(value, "\n") {
			return nil, invalid("unified: the value of %.80s is not one that a file can take: %.80q", key, value)
		}
		out[key] = value
	}
	return out, nil
}

// OOMScoreAdj is what can be set of the request's wish: not below what the daemon may
// give. warn may be nil.
func OOMScoreAdj(wanted int64, host HostFacts, warn func(string, ...any)) (int, error) {
	if wanted < -1000 || wanted > 1000 {
		return 0, invalid("oom_score_adj: %d is not between -1000 and 1000", wanted)
	}
	if int(wanted) < host.MinOOMScoreAdj {
		if warn != nil {
			warn("oom_score_adj raised to what may be set", "wanted", wanted, "set", host.MinOOMScoreAdj)
		}
		return host.MinOOMScoreAdj, nil
	}
	return int(wanted), nil
}

// MergeResources is the request that holds after an update: its zero fields mean
// "as before". Neither argument is changed.
func MergeResources(before, update *runtime.LinuxContainerResources) *runtime.LinuxContainerResources {
	pick := func(old, new int64) int64 {
		if new != 0 {
			return new
		}
		return old
	}
	text := func(old, new string) string {
		if new != "" {
			return new
		}
		return old
	}
	merged := &runtime.LinuxContainerResources{
		CpuPeriod:          pick(before.GetCpuPeriod(), update.GetCpuPeriod()),
		CpuQuota:           pick(before.GetCpuQuota(), update.GetCpuQuota()),
		CpuShares:          pick(before.GetCpuShares(), update.GetCpuShares()),
		MemoryLimitInBytes: pick(before.GetMemoryLimitInBytes(), update.GetMemoryLimitInBytes()),
		OomScoreAdj:        pick(before.GetOomScoreAdj(), update.GetOomScoreAdj()),
		CpusetCpus:         text(before.GetCpusetCpus(), update.GetCpusetCpus()),
		CpusetMems:         text(before.GetCpusetMems(), update.GetCpusetMems()),
		HugepageLimits:     before.GetHugepageLimits(),
	}
	merged.MemorySwapLimitInBytes = pick(before.GetMemorySwapLimitInBytes(), update.GetMemorySwapLimitInBytes())
	if len(update.GetHugepageLimits()) > 0 {
		merged.HugepageLimits = update.GetHugepageLimits()
	}
	if len(before.GetUnified())+len(update.GetUnified()) > 0 {
		merged.Unified = map[string]string{}
		for _, m := range []map[string]string{before.GetUnified(), update.GetUnified()} {
			for key, value := range m {
				merged.Unified[key] = value
			}
		}
	}
	return merged
}

// decimal parses plain digits up to a bound.
func decimal(s string, bound int64) (int64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		d := int64(s[i] - '0')
		if n > (bound-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
