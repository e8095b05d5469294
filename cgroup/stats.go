package cgroup

import "time"

// Stats are the figures of one cgroup. A nil part means that the kernel or the
// hierarchy does not offer it. Within a part a figure that not every kernel has is
// told by a Has field beside it, and zero means zero.
type Stats struct {
	CPU     *CPUStats
	Memory  *MemoryStats
	Swap    *SwapStats
	Pids    *PidsStats
	IO      *IOStats
	Hugetlb []HugetlbStats
}

// CPUStats are processor figures.
type CPUStats struct {
	At time.Time
	// Usage, User and System are nanoseconds of CPU time since the cgroup was made.
	Usage, User, System uint64
	HasModes            bool // User and System
	// Periods, ThrottledPeriods and ThrottledTime (ns) are CFS bandwidth control's.
	Periods, ThrottledPeriods, ThrottledTime uint64
	HasBandwidth                             bool // the three above
	PSI                                      *PSI
}

// MemoryStats are memory figures in bytes, faults in events.
type MemoryStats struct {
	At time.Time
	// Usage is what is charged; WorkingSet is Usage less inactive file pages, as
	// kubelet's eviction computes it.
	// Shmem is the part of Cache that no file system on a disk is behind: tmpfs, shared memory.
	Usage, WorkingSet, RSS, Cache, MappedFile, Shmem uint64
	// Limit is 0 when there is none.
	Limit, MaxUsage, FailCount uint64
	HasMaxUsage, HasFailCount  bool
	// Reservation is what reclaim leaves alone: memory.min, or v1's soft limit; 0 is none.
	Reservation                 uint64
	HasReservation              bool
	PageFaults, MajorPageFaults uint64
	// OwnPageFaults and OwnMajorPageFaults leave out the cgroups below; only v1 counts so.
	OwnPageFaults, OwnMajorPageFaults uint64
	HasOwnFaults                      bool
	// ActiveFile and InactiveFile are the page cache's two lists, Kernel what the
	// kernel holds for the cgroup.
	ActiveFile, InactiveFile, Kernel uint64
	HasFileLists, HasKernel          bool
	// OOMKills counts processes of this cgroup that the OOM killer ended.
	OOMKills    uint64
	HasOOMKills bool
	// HighEvents counts the times above memory.high, which v1 does not have.
	HighEvents uint64
	PSI        *PSI
}

// SwapStats are swap figures in bytes; Limit is 0 when there is none.
type SwapStats struct {
	At           time.Time
	Usage, Limit uint64
}

// PidsStats are task counts; Limit is 0 when there is none. Threads are tasks,
// Processes thread groups. FileDescriptors are those that the processes have open.
type PidsStats struct {
	At                        time.Time
	Threads, Processes, Limit uint64
	// Refused counts forks in this cgroup that its limit, or one above, refused.
	Refused            uint64
	FileDescriptors    uint64
	HasFileDescriptors bool
	// Sockets are those of FileDescriptors that are sockets.
	Sockets    uint64
	HasSockets bool
}

// IOStats are block I/O figures per device.
type IOStats struct {
	At      time.Time
	Devices []DeviceIO
	PSI     *PSI
}

// DeviceIO is one device's traffic: bytes and operations. DeviceName names it.
type DeviceIO struct {
	Major, Minor             uint64
	ReadBytes, WriteBytes    uint64
	ReadOps, WriteOps        uint64
	DiscardBytes, DiscardOps uint64
}

// HugetlbStats are one huge page size's figures in bytes.
type HugetlbStats struct {
	PageSize        string
	Usage, MaxUsage uint64
	HasMaxUsage     bool // only v1 tells
	FailCount       uint64
}

// PSI is pressure stall information (kernel Documentation/accounting/psi.rst).
type PSI struct{ Some, Full PSILine }

// PSILine is one line of a pressure file: averages in percent, Total in nanoseconds.
type PSILine struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}
