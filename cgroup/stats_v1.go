package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func (c *Cgroups) readV1(fsPath string) (Stats, error) {
	var s Stats
	var errs [6]error
	if dir := c.dir("cpuacct", fsPath); dir != "" {
		s.CPU, errs[0] = part(func() (*CPUStats, error) { return cpuV1(dir, c.dir("cpu", fsPath)) })
	}
	if dir := c.dir("memory", fsPath); dir != "" {
		var swap *SwapStats
		s.Memory, errs[1] = part(func() (m *MemoryStats, err error) { m, swap, err = memoryV1(dir); return m, err })
		if s.Memory != nil {
			s.Swap = swap
		}
	}
	if dir := c.dir("pids", fsPath); dir != "" {
		s.Pids, errs[2] = part(func() (*PidsStats, error) { return readPids(dir) })
	}
	if dir := c.dir("blkio", fsPath); dir != "" {
		s.IO, errs[3] = part(func() (*IOStats, error) { return ioV1(dir) })
	}
	if dir := c.dir("hugetlb", fsPath); dir != "" {
		s.Hugetlb, errs[4] = hugetlbV1(dir)
	}
	if dir := c.unifiedDir(fsPath); dir != "" {
		errs[5] = addPressure(&s, dir)
	}
	return s, errors.Join(errs[:]...)
}

// addPressure takes a hybrid host's pressure figures from its v2 hierarchy.
func addPressure(s *Stats, dir string) error {
	var errs [3]error
	if s.CPU != nil {
		s.CPU.PSI, errs[0] = readPSI(dir, "cpu.pressure")
	}
	if s.Memory != nil {
		s.Memory.PSI, errs[1] = readPSI(dir, "memory.pressure")
	}
	if s.IO != nil {
		s.IO.PSI, errs[2] = readPSI(dir, "io.pressure")
	}
	return errors.Join(errs[:]...)
}

func cpuV1(acct, cpu string) (*CPUStats, error) {
	s := &CPUStats{At: time.Now()}
	var err error
	if s.Usage, err = readUint(acct, "cpuacct.usage"); err != nil {
		return nil, err
	}
	var user, system error // since Linux 4.7
	s.User, user = readUint(acct, "cpuacct.usage_user")
	s.System, system = readUint(acct, "cpuacct.usage_sys")
	s.HasModes = user == nil && system == nil
	if cpu == "" {
		return s, nil
	}
	stat, err := readKeys(cpu, "cpu.stat")
	s.Periods, s.ThrottledPeriods, s.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"]
	s.HasBandwidth = has(stat, "nr_periods")
	return s, optional(err)
}

// memoryV1 reads hierarchical figures: total_… include the cgroups below, as usage does.
func memoryV1(dir string) (*MemoryStats, *SwapStats, error) {
	m := &MemoryStats{At: time.Now()}
	stat, err := readKeys(dir, "memory.stat")
	if err != nil {
		return nil, nil, err
	}
	if m.Usage, err = readUint(dir, "memory.usage_in_bytes"); err != nil {
		return nil, nil, err
	}
	if m.Limit, err = readLimit(dir, "memory.limit_in_bytes"); err != nil {
		return nil, nil, err
	}
	m.WorkingSet = m.Usage - min(m.Usage, stat["total_inactive_file"])
	m.RSS, m.Cache, m.MappedFile = stat["total_rss"], stat["total_cache"], stat["total_mapped_file"]
	m.PageFaults, m.MajorPageFaults = stat["total_pgfault"], stat["total_pgmajfault"]
	m.OwnPageFaults, m.OwnMajorPageFaults, m.HasOwnFaults = stat["pgfault"], stat["pgmajfault"], has(stat, "pgfault")
	m.ActiveFile, m.InactiveFile, m.HasFileLists = stat["total_active_file"], stat["total_inactive_file"], has(stat, "total_active_file")
	m.MaxUsage, m.HasMaxUsage = told(dir, "memory.max_usage_in_bytes")
	m.FailCount, m.HasFailCount = told(dir, "memory.failcnt")
	m.Kernel, m.HasKernel = told(dir, "memory.kmem.usage_in_bytes")
	control, _ := readKeys(dir, "memory.oom_control")
	m.OOMKills, m.HasOOMKills = control["oom_kill"], has(control, "oom_kill") // since Linux 4.13

	total, err := readLimit(dir, "memory.memsw.limit_in_bytes")
	if err != nil { // no swap accounting
		return m, nil, optional(err)
	}
	swap := &SwapStats{At: time.Now(), Usage: stat["total_swap"]}
	if total > 0 {
		swap.Limit = total - min(total, m.Limit)
	}
	return m, swap, nil
}

// readPids is the same on v1 and v2.
func readPids(dir string) (*PidsStats, error) {
	s := &PidsStats{At: time.Now()}
	var err error
	if s.Threads, err = readUint(dir, "pids.current"); err != nil {
		return nil, err
	}
	if s.Limit, err = readUint(dir, "pids.max"); err != nil {
		return nil, err
	}
	// Since Linux 6.11 v2 counts at the limit that was met, and ".local" at whoever met it
	// (Documentation/admin-guide/cgroup-v2.rst, pids.events.local).
	for _, name := range []string{"pids.events.local", "pids.events"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			s.Refused = parseKeys(string(raw))["max"]
			break
		}
	}
	procs, err := procsBelow(dir)
	s.Processes = uint64(len(procs))
	s.FileDescriptors, s.HasFileDescriptors = descriptorsOf(procs)
	return s, err
}

// ioV1 reads the throttling layer's counters, which count for every scheduler.
func ioV1(dir string) (*IOStats, error) {
	s := &IOStats{At: time.Now()}
	devices := map[string]*DeviceIO{}
	for _, f := range []struct {
		name                 string
		read, write, discard func(*DeviceIO) *uint64
	}{
		{"blkio.throttle.io_service_bytes_recursive",
			func(d *DeviceIO) *uint64 { return &d.ReadBytes }, func(d *DeviceIO) *uint64 { return &d.WriteBytes },
			func(d *DeviceIO) *uint64 { return &d.DiscardBytes }},
		{"blkio.throttle.io_serviced_recursive",
			func(d *DeviceIO) *uint64 { return &d.ReadOps }, func(d *DeviceIO) *uint64 { return &d.WriteOps },
			func(d *DeviceIO) *uint64 { return &d.DiscardOps }},
	} {
		text, err := readFile(dir, f.name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) { // "8:0 Read 123", and "Total 456"
			fields := strings.Fields(line)
			if len(fields) != 3 {
				continue
			}
			d := deviceOf(devices, fields[0])
			n, err := strconv.ParseUint(fields[2], 10, 64)
			if d == nil || err != nil {
				continue
			}
			switch fields[1] {
			case "Read":
				*f.read(d) = n
			case "Write":
				*f.write(d) = n
			case "Discard":
				*f.discard(d) = n
			}
		}
	}
	s.Devices = sortedDevices(devices)
	return s, nil
}

func hugetlbV1(dir string) ([]HugetlbStats, error) {
	var all []HugetlbStats
	for _, size := range hostHugepageSizes() {
		h := HugetlbStats{PageSize: size}
		var err error
		if h.Usage, err = readUint(dir, "hugetlb."+size+".usage_in_bytes"); err != nil {
			return nil, optional(err)
		}
		h.MaxUsage, _ = readUint(dir, "hugetlb."+size+".max_usage_in_bytes")
		h.FailCount, _ = readUint(dir, "hugetlb."+size+".failcnt")
		all = append(all, h)
	}
	return all, nil
}
