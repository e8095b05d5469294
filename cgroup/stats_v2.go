package cgroup

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

func readV2(dir string) (Stats, error) {
	var s Stats
	var errs [6]error
	s.CPU, errs[0] = part(func() (*CPUStats, error) { return cpuV2(dir) })
	s.Memory, errs[1] = part(func() (*MemoryStats, error) { return memoryV2(dir) })
	s.Swap, errs[2] = part(func() (*SwapStats, error) { return swapV2(dir) })
	s.Pids, errs[3] = part(func() (*PidsStats, error) { return readPids(dir) })
	s.IO, errs[4] = part(func() (*IOStats, error) { return ioV2(dir) })
	s.Hugetlb, errs[5] = hugetlbV2(dir)
	return s, errors.Join(errs[:]...)
}

// cpuV2: times are microseconds in the file and nanoseconds here.
func cpuV2(dir string) (*CPUStats, error) {
	s := &CPUStats{At: time.Now()}
	stat, err := readKeys(dir, "cpu.stat")
	if err != nil {
		return nil, err
	}
	s.Usage, s.User, s.System = stat["usage_usec"]*1000, stat["user_usec"]*1000, stat["system_usec"]*1000
	s.Periods, s.ThrottledPeriods, s.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], stat["throttled_usec"]*1000
	s.HasModes, s.HasBandwidth = has(stat, "user_usec"), has(stat, "nr_periods")
	s.PSI, err = readPSI(dir, "cpu.pressure")
	return s, err
}

func memoryV2(dir string) (*MemoryStats, error) {
	m := &MemoryStats{At: time.Now()}
	stat, err := readKeys(dir, "memory.stat")
	if err != nil {
		return nil, err
	}
	if m.Usage, err = readUint(dir, "memory.current"); err != nil {
		return nil, err
	}
	if m.Limit, err = readUint(dir, "memory.max"); err != nil {
		return nil, err
	}
	m.WorkingSet = m.Usage - min(m.Usage, stat["inactive_file"])
	m.RSS, m.Cache, m.MappedFile = stat["anon"], stat["file"], stat["file_mapped"]
	m.PageFaults, m.MajorPageFaults = stat["pgfault"], stat["pgmajfault"]
	m.ActiveFile, m.InactiveFile, m.HasFileLists = stat["active_file"], stat["inactive_file"], has(stat, "active_file")
	m.Kernel, m.HasKernel = stat["kernel"], has(stat, "kernel") // since Linux 5.18
	m.MaxUsage, m.HasMaxUsage = told(dir, "memory.peak")        // since Linux 5.19
	events, _ := readKeys(dir, "memory.events")
	m.FailCount, m.HasFailCount = events["max"], has(events, "max")
	m.OOMKills, m.HasOOMKills = events["oom_kill"], has(events, "oom_kill")
	m.PSI, err = readPSI(dir, "memory.pressure")
	return m, err
}

func swapV2(dir string) (*SwapStats, error) {
	s := &SwapStats{At: time.Now()}
	var err error
	if s.Usage, err = readUint(dir, "memory.swap.current"); err != nil {
		return nil, err
	}
	s.Limit, err = readUint(dir, "memory.swap.max")
	return s, err
}

func ioV2(dir string) (*IOStats, error) {
	s := &IOStats{At: time.Now()}
	text, err := readFile(dir, "io.stat")
	if err != nil {
		return nil, err
	}
	s.Devices = parseIOStat(text)
	s.PSI, err = readPSI(dir, "io.pressure")
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

func hugetlbV2(dir string) ([]HugetlbStats, error) {
	var all []HugetlbStats
	for _, size := range hostHugepageSizes() {
		h := HugetlbStats{PageSize: size}
		var err error
		if h.Usage, err = readUint(dir, "hugetlb."+size+".current"); err != nil {
			return nil, optional(err)
		}
		events, _ := readKeys(dir, "hugetlb."+size+".events")
		h.FailCount = events["max"]
		all = append(all, h)
	}
	return all, nil
}
