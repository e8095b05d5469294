package cgroup

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

func readV1(f *figures, extent Extent) (Stats, error) {
	var s Stats
	var errs [6]error
	mounted := f.of.mounts.v1
	if mounted["cpuacct"] != "" {
		s.CPU, errs[0] = part(func() (*CPUStats, error) { return cpuV1(f, extent) })
	}
	if mounted["memory"] != "" {
		var swap *SwapStats
		s.Memory, errs[1] = part(func() (m *MemoryStats, err error) { m, swap, err = memoryV1(f, extent); return m, err })
		if s.Memory != nil {
			s.Swap = swap
		}
	}
	if mounted["pids"] != "" && extent >= UsageAndTasks {
		s.Pids, errs[2] = part(func() (*PidsStats, error) { return readPids(f, extent) })
	}
	if mounted["blkio"] != "" {
		s.IO, errs[3] = part(func() (*IOStats, error) { return ioV1(f, extent) })
	}
	if mounted["hugetlb"] != "" && extent >= Figures {
		s.Hugetlb, errs[4] = hugetlbV1(f)
	}
	errs[5] = addPressure(f, &s)
	return s, errors.Join(errs[:]...)
}

// addPressure takes a hybrid host's pressure figures from its v2 hierarchy.
func addPressure(f *figures, s *Stats) error {
	if f.dir(unified) == "" {
		return nil
	}
	var errs [3]error
	if s.CPU != nil {
		s.CPU.PSI, errs[0] = f.psi(unified, "cpu.pressure")
	}
	if s.Memory != nil {
		s.Memory.PSI, errs[1] = f.psi(unified, "memory.pressure")
	}
	if s.IO != nil {
		s.IO.PSI, errs[2] = f.psi(unified, "io.pressure")
	}
	return errors.Join(errs[:]...)
}

func cpuV1(f *figures, extent Extent) (*CPUStats, error) {
	s := &CPUStats{At: time.Now()}
	var err error
	if s.Usage, err = f.uint("cpuacct", "cpuacct.usage"); err != nil || extent < Figures {
		return s, err
	}
	var user, system bool // since Linux 4.7
	s.User, user = f.told("cpuacct", "cpuacct.usage_user")
	s.System, system = f.told("cpuacct", "cpuacct.usage_sys")
	s.HasModes = user && system
	stat, err := f.keys("cpu", "cpu.stat")
	s.Periods, s.HasBandwidth = stat.get("nr_periods")
	s.ThrottledPeriods, s.ThrottledTime = stat.of("nr_throttled"), stat.of("throttled_time")
	return s, optional(err)
}

// memoryV1 reads hierarchical figures: total_… include the cgroups below, as usage does.
func memoryV1(f *figures, extent Extent) (*MemoryStats, *SwapStats, error) {
	m := &MemoryStats{At: time.Now()}
	stat, err := f.keys("memory", "memory.stat")
	if err != nil {
		return nil, nil, err
	}
	if m.Usage, err = f.uint("memory", "memory.usage_in_bytes"); err != nil {
		return nil, nil, err
	}
	if m.Limit, err = f.limit("memory", "memory.limit_in_bytes"); err != nil {
		return nil, nil, err
	}
	m.InactiveFile = stat.of("total_inactive_file")
	m.WorkingSet = m.Usage - min(m.Usage, m.InactiveFile)
	m.RSS, m.Cache, m.MappedFile, m.Shmem = stat.of("total_rss"), stat.of("total_cache"), stat.of("total_mapped_file"), stat.of("total_shmem")
	m.PageFaults, m.MajorPageFaults = stat.of("total_pgfault"), stat.of("total_pgmajfault")
	m.OwnPageFaults, m.HasOwnFaults = stat.get("pgfault")
	m.OwnMajorPageFaults = stat.of("pgmajfault")
	m.ActiveFile, m.HasFileLists = stat.get("total_active_file")
	if extent >= Figures {
		m.MaxUsage, m.HasMaxUsage = f.told("memory", "memory.max_usage_in_bytes")
		m.FailCount, m.HasFailCount = f.told("memory", "memory.failcnt")
		if soft, err := f.limit("memory", "memory.soft_limit_in_bytes"); err == nil {
			m.Reservation, m.HasReservation = soft, true
		}
		m.Kernel, m.HasKernel = f.told("memory", "memory.kmem.usage_in_bytes")
		control, _ := f.keys("memory", "memory.oom_control")
		m.OOMKills, m.HasOOMKills = control.get("oom_kill") // since Linux 4.13
	}
	total, err := f.limit("memory", "memory.memsw.limit_in_bytes")
	if err != nil { // no swap accounting
		return m, nil, optional(err)
	}
	swap := &SwapStats{At: time.Now(), Usage: stat.of("total_swap")}
	if total > 0 {
		swap.Limit = total - min(total, m.Limit)
	}
	return m, swap, nil
}

// readPids is the same on v1 and v2.
func readPids(f *figures, extent Extent) (*PidsStats, error) {
	s := &PidsStats{At: time.Now()}
	var err error
	if s.Threads, err = f.uint("pids", "pids.current"); err != nil {
		return nil, err
	}
	if s.Limit, err = f.uint("pids", "pids.max"); err != nil {
		return nil, err
	}
	// Since Linux 6.11 v2 counts at the limit that was met, and ".local" at whoever met it
	// (Documentation/admin-guide/cgroup-v2.rst, pids.events.local).
	files := []string{"pids.events.local", "pids.events"}
	if f.of.Mode() != V2 {
		files = files[1:]
	}
	for _, name := range files {
		if events, err := f.keys("pids", name); err == nil {
			s.Refused = events.of("max")
			break
		}
	}
	procs, err := f.processes()
	s.Processes = uint64(len(procs))
	if extent >= Figures {
		s.FileDescriptors, s.HasFileDescriptors = descriptorsOf(procs)
	}
	if extent >= Everything && s.HasFileDescriptors && s.FileDescriptors <= maxCountedFiles {
		s.Sockets, s.HasSockets = socketsOf(procs)
	}
	return s, err
}

// ioV1 reads the throttling layer's counters, which count for every scheduler.
func ioV1(f *figures, extent Extent) (*IOStats, error) {
	s := &IOStats{At: time.Now()}
	if extent < Figures {
		return s, nil
	}
	devices := map[string]*DeviceIO{}
	for _, file := range []struct {
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
		text, err := f.text("blkio", file.name)
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
				*file.read(d) = n
			case "Write":
				*file.write(d) = n
			case "Discard":
				*file.discard(d) = n
			}
		}
	}
	s.Devices = sortedDevices(devices)
	return s, nil
}

func hugetlbV1(f *figures) ([]HugetlbStats, error) {
	var all []HugetlbStats
	for _, size := range hostHugepageSizes() {
		h := HugetlbStats{PageSize: size}
		var err error
		if h.Usage, err = f.uint("hugetlb", "hugetlb."+size+".usage_in_bytes"); err != nil {
			return nil, optional(err)
		}
		h.MaxUsage, h.HasMaxUsage = f.told("hugetlb", "hugetlb."+size+".max_usage_in_bytes")
		h.FailCount, _ = f.told("hugetlb", "hugetlb."+size+".failcnt")
		all = append(all, h)
	}
	return all, nil
}
