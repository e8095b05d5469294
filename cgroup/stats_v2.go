package cgroup

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

func readV2(f *figures, extent Extent) (Stats, error) {
	var s Stats
	var errs [6]error
	s.CPU, errs[0] = part(func() (*CPUStats, error) { return cpuV2(f) })
	s.Memory, errs[1] = part(func() (*MemoryStats, error) { return memoryV2(f, extent) })
	s.Swap, errs[2] = part(func() (*SwapStats, error) { return swapV2(f) })
	if extent >= UsageAndTasks {
		s.Pids, errs[3] = part(func() (*PidsStats, error) { return readPids(f, extent) })
	}
	s.IO, errs[4] = part(func() (*IOStats, error) { return ioV2(f, extent) })
	if extent >= Figures {
		s.Hugetlb, errs[5] = hugetlbV2(f)
	}
	return s, errors.Join(errs[:]...)
}

// cpuV2: times are microseconds in the file and nanoseconds here.
func cpuV2(f *figures) (*CPUStats, error) {
	s := &CPUStats{At: time.Now()}
	stat, err := f.keys("cpu", "cpu.stat")
	if err != nil {
		return nil, err
	}
	s.User, s.HasModes = stat.get("user_usec")
	s.Periods, s.HasBandwidth = stat.get("nr_periods")
	s.Usage, s.User, s.System = stat.of("usage_usec")*1000, s.User*1000, stat.of("system_usec")*1000
	s.ThrottledPeriods, s.ThrottledTime = stat.of("nr_throttled"), stat.of("throttled_usec")*1000
	s.PSI, err = f.psi("cpu", "cpu.pressure")
	return s, err
}

func memoryV2(f *figures, extent Extent) (*MemoryStats, error) {
	m := &MemoryStats{At: time.Now()}
	stat, err := f.keys("memory", "memory.stat")
	if err != nil {
		return nil, err
	}
	if m.Usage, err = f.uint("memory", "memory.current"); err != nil {
		return nil, err
	}
	if m.Limit, err = f.uint("memory", "memory.max"); err != nil {
		return nil, err
	}
	m.InactiveFile = stat.of("inactive_file")
	m.WorkingSet = m.Usage - min(m.Usage, m.InactiveFile)
	m.RSS, m.Cache, m.MappedFile, m.Shmem = stat.of("anon"), stat.of("file"), stat.of("file_mapped"), stat.of("shmem")
	m.PageFaults, m.MajorPageFaults = stat.of("pgfault"), stat.of("pgmajfault")
	m.ActiveFile, m.HasFileLists = stat.get("active_file")
	m.Kernel, m.HasKernel = stat.get("kernel") // since Linux 5.18
	if extent >= Figures {
		m.MaxUsage, m.HasMaxUsage = f.told("memory", "memory.peak") // since Linux 5.19
		m.Reservation, m.HasReservation = f.told("memory", "memory.min")
		events, _ := f.keys("memory", "memory.events")
		m.FailCount, m.HasFailCount = events.get("max")
		m.HighEvents = events.of("high")
		m.OOMKills, m.HasOOMKills = events.get("oom_kill")
	}
	m.PSI, err = f.psi("memory", "memory.pressure")
	return m, err
}

func swapV2(f *figures) (*SwapStats, error) {
	s := &SwapStats{At: time.Now()}
	var err error
	if s.Usage, err = f.uint("memory", "memory.swap.current"); err != nil {
		return nil, err
	}
	s.Limit, err = f.uint("memory", "memory.swap.max")
	return s, err
}

// ioV2: usage is pressure alone.
func ioV2(f *figures, extent Extent) (*IOStats, error) {
	s := &IOStats{At: time.Now()}
	if extent >= Figures {
		text, err := f.text("io", "io.stat")
		if err != nil {
			return nil, err
		}
		s.Devices = parseIOStat(text)
	}
	var err error
	s.PSI, err = f.psi("io", "io.pressure")
	return s, err
}

// parseIOStat reads lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
func parseIOStat(text string) []DeviceIO {
	devices := map[string]*DeviceIO{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		d := deviceOf(devices, fields[0])
		if d == nil {
			continue
		}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "rbytes":
				d.ReadBytes = n
			case "wbytes":
				d.WriteBytes = n
			case "rios":
				d.ReadOps = n
			case "wios":
				d.WriteOps = n
			case "dbytes":
				d.DiscardBytes = n
			case "dios":
				d.DiscardOps = n
			}
		}
	}
	return sortedDevices(devices)
}

// deviceOf returns the entry of "major:minor", nil for anything else.
func deviceOf(devices map[string]*DeviceIO, name string) *DeviceIO {
	if d := devices[name]; d != nil {
		return d
	}
	major, minor, ok := strings.Cut(name, ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return nil
	}
	d := &DeviceIO{Major: a, Minor: b}
	devices[name] = d
	return d
}

func sortedDevices(devices map[string]*DeviceIO) []DeviceIO {
	list := make([]DeviceIO, 0, len(devices))
	for _, d := range devices {
		list = append(list, *d)
	}
	slices.SortFunc(list, func(x, y DeviceIO) int { return cmp.Or(cmp.Compare(x.Major, y.Major), cmp.Compare(x.Minor, y.Minor)) })
	return list
}

func hugetlbV2(f *figures) ([]HugetlbStats, error) {
	var all []HugetlbStats
	for _, size := range hostHugepageSizes() {
		h := HugetlbStats{PageSize: size}
		var err error
		if h.Usage, err = f.uint("hugetlb", "hugetlb."+size+".current"); err != nil {
			return nil, optional(err)
		}
		events, _ := f.keys("hugetlb", "hugetlb."+size+".events")
		h.FailCount = events.of("max")
		all = append(all, h)
	}
	return all, nil
}
