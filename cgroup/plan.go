package cgroup

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"

	"github.com/vitrine-runtime/vitrine/pod"
)

// defaultPeriod is the kernel's CPU bandwidth period in microseconds.
const defaultPeriod = 100000

// plan lists the files to be written, in an order in which every intermediate state
// is one that the kernel accepts. It reads the present limits and writes nothing.
func (c *Cgroups) plan(fsPath string, r Resources) ([]step, error) {
	var steps []step
	var errs error
	add := func(controller string, wanted bool, build func(dir string) ([]step, error)) {
		if !wanted || errs != nil {
			return
		}
		if !c.hasController(controller) {
			errs = fmt.Errorf("%w: this host has no %s controller", pod.ErrUnsupported, controller)
			return
		}
		more, err := build(c.dir(controller, fsPath))
		steps, errs = append(steps, more...), err
	}
	v2 := c.Mode() == V2
	add("cpuset", r.CpusetCpus != "" || r.CpusetMems != "", func(dir string) ([]step, error) { return cpusetSteps(dir, r), nil })
	add("cpu", r.CPUShares != 0 || r.CPUPeriod != 0 || r.CPUQuota != 0, func(dir string) ([]step, error) {
		if v2 {
			return cpuStepsV2(dir, r)
		}
		return cpuStepsV1(dir, r)
	})
	add("pids", r.Pids != 0, func(dir string) ([]step, error) {
		return []step{{dir, "pids.max", limitText(r.Pids, "max"), false}}, nil
	})
	if c.hasController("hugetlb") {
		steps = append(steps, hugetlbSteps(c.dir("hugetlb", fsPath), r, v2)...)
	}
	add("memory", r.Memory != 0 || r.MemorySwap != 0, func(dir string) ([]step, error) {
		if v2 {
			return memoryStepsV2(dir, r)
		}
		return memoryStepsV1(dir, r)
	})
	if errs != nil || len(r.Unified) == 0 {
		return steps, errs
	}
	if !v2 {
		return nil, fmt.Errorf("%w: files of cgroup v2 cannot be set on this %s host", pod.ErrUnsupported, c.Mode())
	}
	more, err := unifiedSteps(c.dir("", fsPath), r.Unified)
	return append(steps, more...), err
}

func cpusetSteps(dir string, r Resources) []step {
	var steps []step
	for _, f := range [][2]string{{"cpuset.cpus", r.CpusetCpus}, {"cpuset.mems", r.CpusetMems}} {
		if f[1] != "" {
			steps = append(steps, step{dir, f[0], f[1], false})
		}
	}
	return steps
}

// cpuStepsV1: period and quota are two files, and each pair on the way has to fit
// into the parent's share. Old and new pair do; of the two ways between them the one
// over the smaller share does, too.
func cpuStepsV1(dir string, r Resources) ([]step, error) {
	var steps []step
	if r.CPUShares != 0 {
		steps = append(steps, step{dir, "cpu.shares", strconv.FormatUint(r.CPUShares, 10), false})
	}
	period := step{dir, "cpu.cfs_period_us", strconv.FormatUint(r.CPUPeriod, 10), false}
	quota := step{dir, "cpu.cfs_quota_us", strconv.FormatInt(r.CPUQuota, 10), false}
	switch {
	case r.CPUPeriod == 0 && r.CPUQuota == 0:
		return steps, nil
	case r.CPUPeriod == 0:
		return append(steps, quota), nil
	case r.CPUQuota == 0:
		return append(steps, period), nil
	}
	oldPeriod, err := readUint(dir, "cpu.cfs_period_us")
	if err != nil {
		return nil, err
	}
	oldQuota, err := readInt(dir, "cpu.cfs_quota_us")
	if err != nil {
		return nil, err
	}
	periodFirst := oldQuota == -1 ||
		r.CPUQuota != -1 && float64(oldQuota)/float64(r.CPUPeriod) <= float64(r.CPUQuota)/float64(max(oldPeriod, 1))
	if periodFirst {
		return append(steps, period, quota), nil
	}
	return append(steps, quota, period), nil
}

func cpuStepsV2(dir string, r Resources) ([]step, error) {
	var steps []step
	if r.CPUShares != 0 {
		weight := cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares) // as the runtime does at creation
		steps = append(steps, step{dir, "cpu.weight", strconv.FormatUint(weight, 10), false})
	}
	if r.CPUPeriod == 0 && r.CPUQuota == 0 {
		return steps, nil
	}
	old, err := readFile(dir, "cpu.max")
	if err != nil {
		return nil, err
	}
	fields := append(strings.Fields(old), "max", strconv.Itoa(defaultPeriod))
	quota, period := fields[0], fields[1]
	if r.CPUQuota != 0 {
		quota = limitText(r.CPUQuota, "max")
	}
	if r.CPUPeriod != 0 {
		period = strconv.FormatUint(r.CPUPeriod, 10)
	}
	return append(steps, step{dir, "cpu.max", quota + " " + period, false}), nil
}

func hugetlbSteps(dir string, r Resources, v2 bool) []step {
	var steps []step
	for _, size := range slices.Sorted(maps.Keys(r.Hugepages)) {
		value := strconv.FormatUint(r.Hugepages[size], 10)
		if !slices.Contains(hostHugepageSizes(), size) {
			continue
		}
		if v2 {
			steps = append(steps, step{dir, "hugetlb." + size + ".max", value, false}, step{dir, "hugetlb." + size + ".rsvd.max", value, true})
		} else {
			steps = append(steps, step{dir, "hugetlb." + size + ".limit_in_bytes", value, false},
				step{dir, "hugetlb." + size + ".rsvd.limit_in_bytes", value, true})
		}
	}
	return steps
}

// memoryStepsV1: the limit of memory and swap may at no moment be below that of
// memory. So what grows the room is written first.
func memoryStepsV1(dir string, r Resources) ([]step, error) {
	const limitFile, totalFile = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	oldLimit, err := readLimit(dir, limitFile)
	if err != nil {
		return nil, err
	}
	oldTotal, err := readLimit(dir, totalFile)
	if optional(err) != nil {
		return nil, err
	}
	limit := step{dir, limitFile, strconv.FormatInt(r.Memory, 10), false}
	if err != nil { // no swap accounting
		if r.Memory == 0 {
			return nil, nil
		}
		return []step{limit}, nil
	}
	total := r.MemorySwap
	if total == 0 {
		total = keepSwap(r.Memory, oldLimit, oldTotal)
	}
	if err := checkTotal(cmp.Or(r.Memory, signed(oldLimit)), total); err != nil {
		return nil, err
	}
	both := step{dir, totalFile, strconv.FormatInt(total, 10), false}
	switch {
	case r.Memory == 0:
		return []step{both}, nil
	case total == -1 || oldTotal != 0 && uint64(total) >= oldTotal:
		return []step{both, limit}, nil
	}
	return []step{limit, both}, nil
}

// keepSwap is the total with which a new memory limit leaves as much swap as before.
func keepSwap(memory int64, oldLimit, oldTotal uint64) int64 {
	if memory == -1 || oldTotal == 0 {
		return -1
	}
	if oldLimit == 0 || oldTotal < oldLimit {
		return memory
	}
	return memory + int64(oldTotal-oldLimit)
}

func checkTotal(limit, total int64) error {
	if total != -1 && (limit == -1 || total < limit) {
		return fmt.Errorf("%w: limit %d of memory and swap is below the memory limit %d", pod.ErrInvalid, total, limit)
	}
	return nil
}

func memoryStepsV2(dir string, r Resources) ([]step, error) {
	old, err := readUint(dir, "memory.max")
	if err != nil {
		return nil, err
	}
	if r.Memory > 0 && (old == 0 || uint64(r.Memory) < old) {
		if err := checkUsageV2(dir, r.Memory); err != nil {
			return nil, err
		}
	}
	var steps []step
	if r.MemorySwap != 0 {
		limit := cmp.Or(r.Memory, signed(old))
		if err := checkTotal(limit, r.MemorySwap); err != nil {
			return nil, err
		}
		swap := "max"
		if r.MemorySwap != -1 {
			swap = strconv.FormatInt(r.MemorySwap-limit, 10)
		}
		// Without swap accounting there is nothing to be had, so "none" and "all" hold.
		steps = append(steps, step{dir, "memory.swap.max", swap, swap == "0" || swap == "max"})
	}
	if r.Memory != 0 {
		steps = append(steps, step{dir, "memory.max", limitText(r.Memory, "max"), false})
	}
	return steps, nil
}

// checkUsageV2 refuses to go below what cannot be reclaimed: the kernel would accept
// it, and kill. What can be reclaimed is an estimate.
func checkUsageV2(dir string, limit int64) error {
	stat, err := readKeys(dir, "memory.stat")
	if err != nil {
		return err
	}
	usage, err := readUint(dir, "memory.current")
	if err != nil {
		return err
	}
	reclaimable := stat["inactive_file"] + stat["active_file"] + stat["slab_reclaimable"]
	if needed := usage - min(usage, reclaimable); uint64(limit) < needed {
		return fmt.Errorf("%w: memory limit %d is below the %d bytes in use that cannot be reclaimed", pod.ErrState, limit, needed)
	}
	return nil
}

// unifiedSteps are files of controllers only: those of the cgroup core move and kill.
func unifiedSteps(dir string, files map[string]string) ([]step, error) {
	var steps []step
	for _, name := range slices.Sorted(maps.Keys(files)) {
		controller, _, ok := strings.Cut(name, ".")
		if !ok || controller == "" || controller == "cgroup" || strings.ContainsAny(name, "/\x00") {
			return nil, fmt.Errorf("%w: %.80q is not a controller's file", pod.ErrInvalid, name)
		}
		steps = append(steps, step{dir, name, files[name], false})
	}
	return steps, nil
}

// limitText writes a limit; none is the file's word for -1.
func limitText(n int64, none string) string {
	if n == -1 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

// signed turns "0 means none" into "-1 means none".
func signed(limit uint64) int64 {
	if limit == 0 {
		return -1
	}
	return int64(limit)
}

func readInt(dir, name string) (int64, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s/%s: %.40q is not a number", dir, name, text)
	}
	return n, nil
}
