package cri

import (
	"strconv"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// The cAdvisor-compatible families. One table feeds ListMetricDescriptors,
// ListPodSandboxMetrics and the page /metrics/containers. Names, label names and
// what zero means are cAdvisor's (its docs/storage/prometheus.md); a figure that the
// host does not tell is left out.

// baseLabels are the keys of every series, in the order of subject.labels. A pod's
// own series have its cgroup as id, its sandbox as name, and an empty container and
// image. The sandbox keeps two attempts of one pod apart, which share a cgroup.
var baseLabels = []string{"id", "name", "image", "container", "namespace", "pod"}

// keyPageSize is the label of what only hosts with huge pages have.
const keyPageSize = "pagesize"

// Units that families scale from.
const (
	plain       = 1
	nanoseconds = uint64(time.Second) // raw in nanoseconds, shown in seconds
)

// family is one line of the table.
type family struct {
	name, help string
	kind       telemetry.Kind
	// unit is how many of what read emits make one of what is shown. Over CRI values
	// are whole numbers, so that seconds are cut off there (UInt64Value of the
	// interface); the page has the fraction.
	unit uint64
	// keys are the labels beside baseLabels.
	keys []string
	// read emits the series of one container or pod, each with the values of keys.
	read func(s *subject, emit emitter)
}

// subject is a container, or a pod with its own cgroup and network.
type subject struct {
	lifecycle.CgroupStats
	labels     []string // values of baseLabels
	at         time.Time
	started    time.Time
	resources  *runtime.LinuxContainerResources // of a container, those in force
	container  *lifecycle.Stats                 // nil for a pod
	interfaces []lifecycle.Interface            // of a pod
	devices    []string                         // names of IO.Devices
}

// emitter takes one series: its value in the family's raw unit, and the values of keys.
type emitter = func(raw uint64, values ...string)

func cpuFigure(read func(s *subject, emit emitter)) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if s.CPU != nil {
			read(s, emit)
		}
	}
}

// bandwidth keeps the figures of CFS quotas to those who have one, as cAdvisor does.
func bandwidth(value func(s *subject) uint64) func(*subject, emitter) {
	return cpuFigure(func(s *subject, emit emitter) {
		if s.CPU.HasBandwidth && (s.CPU.Periods > 0 || s.resources.GetCpuQuota() > 0) {
			emit(value(s))
		}
	})
}

// figure emits what is told.
func figure(value func(s *subject) (n uint64, told bool)) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if n, told := value(s); told {
			emit(n)
		}
	}
}

func memoryFigure(value func(s *subject) (n uint64, told bool)) func(*subject, emitter) {
	return figure(func(s *subject) (uint64, bool) {
		if s.Memory == nil {
			return 0, false
		}
		return value(s)
	})
}

func tasks(value func(s *subject) (n uint64, told bool)) func(*subject, emitter) {
	return figure(func(s *subject) (uint64, bool) {
		if s.Pids == nil {
			return 0, false
		}
		return value(s)
	})
}

// rootfs reads what is known of a container's writable layer and the file system below
// it, whose device is empty when nobody could tell.
func rootfs(value func(c *lifecycle.Stats, fs lifecycle.FileSystem) (n uint64, told bool)) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if s.container == nil {
			return
		}
		var fs lifecycle.FileSystem
		if s.container.FileSystem != nil {
			fs = *s.container.FileSystem
		}
		if n, told := value(s.container, fs); told {
			emit(n, fs.Device)
		}
	}
}

func deviceFigure(value func(d lifecycle.DeviceIO) uint64) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if s.IO == nil {
			return
		}
		for i, d := range s.IO.Devices {
			emit(value(d), s.devices[i])
		}
	}
}

func networkFigure(value func(i lifecycle.Interface) uint64) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		for _, i := range s.interfaces {
			emit(value(i), i.Name)
		}
	}
}

// The pressure of each resource; nil where it is not told.
func cpuPressure(s *subject) *lifecycle.PSI {
	if s.CPU == nil {
		return nil
	}
	return s.CPU.PSI
}

func memoryPressure(s *subject) *lifecycle.PSI {
	if s.Memory == nil {
		return nil
	}
	return s.Memory.PSI
}

func ioPressure(s *subject) *lifecycle.PSI {
	if s.IO == nil {
		return nil
	}
	return s.IO.PSI
}

// waiting is the total of a pressure file's line "some", stalled that of "full".
func waiting(of func(*subject) *lifecycle.PSI) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if psi := of(s); psi != nil {
			emit(psi.Some.Total)
		}
	}
}

func stalled(of func(*subject) *lifecycle.PSI) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if psi := of(s); psi != nil {
			emit(psi.Full.Total)
		}
	}
}

// positive emits a setting whose zero is the absence of it.
func positive(value func(r *runtime.LinuxContainerResources) int64) func(*subject, emitter) {
	return func(s *subject, emit emitter) {
		if n := value(s.resources); n > 0 {
			emit(uint64(n))
		}
	}
}

// faults tells page faults with and without the cgroups below. v2 counts only with
// them; like cAdvisor, a container has that number for both, and a pod has the one.
func faults(s *subject, emit emitter) {
	m := s.Memory
	if m == nil {
		return
	}
	own, ownMajor, told := m.OwnPageFaults, m.OwnMajorPageFaults, m.HasOwnFaults
	if !told && s.container != nil {
		own, ownMajor, told = m.PageFaults, m.MajorPageFaults, true
	}
	if told {
		emit(own, "pgfault", "container")
		emit(ownMajor, "pgmajfault", "container")
	}
	emit(m.PageFaults, "pgfault", "hierarchy")
	emit(m.MajorPageFaults, "pgmajfault", "hierarchy")
}

// blkio tells bytes per device and direction. Discards are told by some kernels only.
func blkio(s *subject, emit emitter) {
	if s.IO == nil {
		return
	}
	for i, d := range s.IO.Devices {
		major, minor := strconv.FormatUint(d.Major, 10), strconv.FormatUint(d.Minor, 10)
		emit(d.ReadBytes, s.devices[i], major, minor, "Read")
		emit(d.WriteBytes, s.devices[i], major, minor, "Write")
		if d.DiscardBytes > 0 {
			emit(d.DiscardBytes, s.devices[i], major, minor, "Discard")
		}
	}
}

// families is the table, in the order of the page.
var families = []family{
	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", telemetry.Counter, nanoseconds, []string{"cpu"},
		cpuFigure(func(s *subject, emit emitter) { emit(s.CPU.Usage, "total") })},
	{"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", telemetry.Counter, nanoseconds, nil,
		cpuFigure(func(s *subject, emit emitter) {
			if s.CPU.HasModes {
				emit(s.CPU.User)
			}
		})},
	{"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", telemetry.Counter, nanoseconds, nil,
		cpuFigure(func(s *subject, emit emitter) {
			if s.CPU.HasModes {
				emit(s.CPU.System)
			}
		})},
	{"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", telemetry.Counter, plain, nil,
		bandwidth(func(s *subject) uint64 { return s.CPU.Periods })},
	{"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", telemetry.Counter, plain, nil,
		bandwidth(func(s *subject) uint64 { return s.CPU.ThrottledPeriods })},
	{"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", telemetry.Counter, nanoseconds, nil,
		bandwidth(func(s *subject) uint64 { return s.CPU.ThrottledTime })},

	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.Usage, true })},
	{"container_memory_working_set_bytes", "Current working set in bytes: usage less inactive file pages.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.WorkingSet, true })},
	{"container_memory_rss", "Size of RSS in bytes.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.RSS, true })},
	{"container_memory_cache", "Number of bytes of page cache memory.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.Cache, true })},
	{"container_memory_mapped_file", "Size of memory mapped files in bytes.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.MappedFile, true })},
	{"container_memory_swap", "Container swap usage in bytes.", telemetry.Gauge, plain, nil,
		func(s *subject, emit emitter) {
			if s.Swap != nil {
				emit(s.Swap.Usage)
			}
		}},
	{"container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.Kernel, s.Memory.HasKernel })},
	{"container_memory_total_active_file_bytes", "Current total active file in bytes.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.ActiveFile, s.Memory.HasFileLists })},
	{"container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.InactiveFile, s.Memory.HasFileLists })},
	{"container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.MaxUsage, s.Memory.HasMaxUsage })},
	{"container_memory_failcnt", "Number of memory usage hits limits.", telemetry.Counter, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.FailCount, s.Memory.HasFailCount })},
	{"container_memory_failures_total", "Cumulative count of memory allocation failures.", telemetry.Counter, plain, []string{"failure_type", "scope"}, faults},
	{"container_oom_events_total", "Count of out of memory events observed for the container.", telemetry.Counter, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.OOMKills, s.Memory.HasOOMKills })},

	{"container_hugetlb_usage_bytes", "Current hugepage usage in bytes.", telemetry.Gauge, plain, []string{keyPageSize},
		func(s *subject, emit emitter) {
			for _, h := range s.Hugetlb {
				emit(h.Usage, h.PageSize)
			}
		}},
	{"container_hugetlb_max_usage_bytes", "Maximum hugepage usage recorded in bytes; cgroup v1 only.", telemetry.Gauge, plain, []string{keyPageSize},
		func(s *subject, emit emitter) {
			for _, h := range s.Hugetlb {
				if h.HasMaxUsage {
					emit(h.MaxUsage, h.PageSize)
				}
			}
		}},
	{"container_hugetlb_failcnt", "Number of hugepage usage hits limits.", telemetry.Counter, plain, []string{keyPageSize},
		func(s *subject, emit emitter) {
			for _, h := range s.Hugetlb {
				emit(h.FailCount, h.PageSize)
			}
		}},

	{"container_processes", "Number of processes running inside the container.", telemetry.Gauge, plain, nil,
		tasks(func(s *subject) (uint64, bool) { return s.Pids.Processes, true })},
	{"container_threads", "Number of threads running inside the container.", telemetry.Gauge, plain, nil,
		tasks(func(s *subject) (uint64, bool) { return s.Pids.Threads, true })},
	{"container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero.", telemetry.Gauge, plain, nil,
		tasks(func(s *subject) (uint64, bool) { return s.Pids.Limit, true })},
	{"container_file_descriptors", "Number of open file descriptors for the container.", telemetry.Gauge, plain, nil,
		tasks(func(s *subject) (uint64, bool) { return s.Pids.FileDescriptors, s.Pids.HasFileDescriptors })},
	{"container_sockets", "Number of open sockets for the container.", telemetry.Gauge, plain, nil,
		tasks(func(s *subject) (uint64, bool) { return s.Pids.Sockets, s.Pids.HasSockets })},
	{"container_ulimits_soft", "Soft limits of the container's first process.", telemetry.Gauge, plain, []string{"ulimit"},
		func(s *subject, emit emitter) {
			if s.container != nil && s.container.OpenFiles > 0 {
				emit(s.container.OpenFiles, "max_open_files")
			}
		}},

	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container's writable layer.", telemetry.Gauge, plain, []string{"device"},
		rootfs(func(c *lifecycle.Stats, _ lifecycle.FileSystem) (uint64, bool) { return c.RootfsBytes, true })},
	{"container_fs_limit_bytes", "Number of bytes that can be consumed on the container's filesystem.", telemetry.Gauge, plain, []string{"device"},
		rootfs(func(_ *lifecycle.Stats, fs lifecycle.FileSystem) (uint64, bool) { return fs.Bytes, fs.Bytes > 0 })},
	{"container_fs_inodes_total", "Number of Inodes.", telemetry.Gauge, plain, []string{"device"},
		rootfs(func(_ *lifecycle.Stats, fs lifecycle.FileSystem) (uint64, bool) { return fs.Inodes, fs.Inodes > 0 })},
	{"container_fs_inodes_free", "Number of available Inodes.", telemetry.Gauge, plain, []string{"device"},
		rootfs(func(_ *lifecycle.Stats, fs lifecycle.FileSystem) (uint64, bool) { return fs.FreeInodes, fs.Inodes > 0 })},
	{"container_fs_reads_bytes_total", "Cumulative count of bytes read.", telemetry.Counter, plain, []string{"device"},
		deviceFigure(func(d lifecycle.DeviceIO) uint64 { return d.ReadBytes })},
	{"container_fs_reads_total", "Cumulative count of reads completed.", telemetry.Counter, plain, []string{"device"},
		deviceFigure(func(d lifecycle.DeviceIO) uint64 { return d.ReadOps })},
	{"container_fs_writes_bytes_total", "Cumulative count of bytes written.", telemetry.Counter, plain, []string{"device"},
		deviceFigure(func(d lifecycle.DeviceIO) uint64 { return d.WriteBytes })},
	{"container_fs_writes_total", "Cumulative count of writes completed.", telemetry.Counter, plain, []string{"device"},
		deviceFigure(func(d lifecycle.DeviceIO) uint64 { return d.WriteOps })},
	{"container_blkio_device_usage_total", "Blkio device bytes usage.", telemetry.Counter, plain, []string{"device", "major", "minor", "operation"}, blkio},

	{"container_network_receive_bytes_total", "Cumulative count of bytes received.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.RxBytes })},
	{"container_network_receive_packets_total", "Cumulative count of packets received.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.RxPackets })},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.RxDropped })},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.RxErrors })},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.TxBytes })},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.TxPackets })},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.TxDropped })},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting.", telemetry.Counter, plain, []string{"interface"},
		networkFigure(func(i lifecycle.Interface) uint64 { return i.TxErrors })},

	{"container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", telemetry.Counter, nanoseconds, nil,
		waiting(cpuPressure)},
	{"container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", telemetry.Counter, nanoseconds, nil,
		stalled(cpuPressure)},
	{"container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", telemetry.Counter, nanoseconds, nil,
		waiting(memoryPressure)},
	{"container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", telemetry.Counter, nanoseconds, nil,
		stalled(memoryPressure)},
	{"container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", telemetry.Counter, nanoseconds, nil,
		waiting(ioPressure)},
	{"container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", telemetry.Counter, nanoseconds, nil,
		stalled(ioPressure)},

	{"container_spec_cpu_period", "CPU period of the container.", telemetry.Gauge, plain, nil,
		positive(func(r *runtime.LinuxContainerResources) int64 { return r.GetCpuPeriod() })},
	{"container_spec_cpu_quota", "CPU quota of the container.", telemetry.Gauge, plain, nil,
		positive(func(r *runtime.LinuxContainerResources) int64 { return r.GetCpuQuota() })},
	{"container_spec_cpu_shares", "CPU share of the container.", telemetry.Gauge, plain, nil,
		positive(func(r *runtime.LinuxContainerResources) int64 { return r.GetCpuShares() })},
	{"container_spec_memory_limit_bytes", "Memory limit for the container; zero for none.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.Limit, true })},
	{"container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container; zero for none.", telemetry.Gauge, plain, nil,
		memoryFigure(func(s *subject) (uint64, bool) { return s.Memory.Reservation, s.Memory.HasReservation })},
	{"container_spec_memory_swap_limit_bytes", "Memory swap limit for the container, swap alone; zero for no limit and for no swap.", telemetry.Gauge, plain, nil,
		func(s *subject, emit emitter) {
			if s.Swap != nil {
				emit(s.Swap.Limit)
			}
		}},

	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", telemetry.Gauge, nanoseconds, nil,
		func(s *subject, emit emitter) {
			if !s.started.IsZero() {
				emit(uint64(s.started.UnixNano()))
			}
		}},
	{"container_last_seen", "Last time a container was seen by the exporter.", telemetry.Gauge, nanoseconds, nil,
		func(s *subject, emit emitter) { emit(uint64(s.at.UnixNano())) }},
}
