package cri

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

// ContainerStats tells one container's figures.
func (s *runtimeService) ContainerStats(ctx context.Context, r *runtime.ContainerStatsRequest) (*runtime.ContainerStatsResponse, error) {
	stats, err := s.pods.ContainerStats(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &runtime.ContainerStatsResponse{Stats: s.containerStats(stats)}, nil
}

// ListContainerStats tells the figures of running containers.
func (s *runtimeService) ListContainerStats(ctx context.Context, r *runtime.ListContainerStatsRequest) (*runtime.ListContainerStatsResponse, error) {
	items, err := s.listContainerStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	response := &runtime.ListContainerStatsResponse{Stats: items}
	return response, fits(proto.Size(response), len(items), "StreamContainerStats")
}

// StreamContainerStats is ListContainerStats in pieces.
func (s *runtimeService) StreamContainerStats(r *runtime.StreamContainerStatsRequest, out grpc.ServerStreamingServer[runtime.StreamContainerStatsResponse]) error {
	items, err := s.listContainerStats(out.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inChunks(items, func(items []*runtime.ContainerStats) error {
		return out.Send(&runtime.StreamContainerStatsResponse{ContainerStats: items})
	})
}

// listContainerStats leaves out a container that goes away while it is read.
func (s *Server) listContainerStats(ctx context.Context, f *runtime.ContainerStatsFilter) ([]*runtime.ContainerStats, error) {
	running := slices.DeleteFunc(s.pods.ContainerList(), func(c *pod.Container) bool {
		return containerState(c.State) != runtime.ContainerState_CONTAINER_RUNNING || !strings.HasPrefix(string(c.ID), f.GetId()) ||
			!strings.HasPrefix(string(c.SandboxID), f.GetPodSandboxId()) || !selected(f.GetLabelSelector(), c.Config.GetLabels())
	})
	items := sideBySide(running, func(c *pod.Container) (*runtime.ContainerStats, bool) {
		if ctx.Err() != nil {
			return nil, false
		}
		stats, err := s.pods.ContainerStats(ctx, string(c.ID))
		if err != nil {
			if ctx.Err() == nil {
				s.skip(ctx, "container", c.ID, err)
			}
			return nil, false
		}
		return s.containerStats(stats), true
	})
	return items, ctx.Err()
}

// PodSandboxStats tells one pod's figures and those of its running containers.
func (s *runtimeService) PodSandboxStats(ctx context.Context, r *runtime.PodSandboxStatsRequest) (*runtime.PodSandboxStatsResponse, error) {
	stats, err := s.pods.SandboxStats(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return &runtime.PodSandboxStatsResponse{Stats: s.sandboxStats(stats)}, nil
}

// ListPodSandboxStats tells the figures of ready pods.
func (s *runtimeService) ListPodSandboxStats(ctx context.Context, r *runtime.ListPodSandboxStatsRequest) (*runtime.ListPodSandboxStatsResponse, error) {
	items, err := s.listSandboxStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	response := &runtime.ListPodSandboxStatsResponse{Stats: items}
	return response, fits(proto.Size(response), len(items), "StreamPodSandboxStats")
}

// StreamPodSandboxStats is ListPodSandboxStats in pieces.
func (s *runtimeService) StreamPodSandboxStats(r *runtime.StreamPodSandboxStatsRequest, out grpc.ServerStreamingServer[runtime.StreamPodSandboxStatsResponse]) error {
	items, err := s.listSandboxStats(out.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inChunks(items, func(items []*runtime.PodSandboxStats) error {
		return out.Send(&runtime.StreamPodSandboxStatsResponse{PodSandboxStats: items})
	})
}

func (s *Server) listSandboxStats(ctx context.Context, f *runtime.PodSandboxStatsFilter) ([]*runtime.PodSandboxStats, error) {
	ready := slices.DeleteFunc(s.readySandboxes(), func(sb *pod.Sandbox) bool {
		return !strings.HasPrefix(string(sb.ID), f.GetId()) || !selected(f.GetLabelSelector(), sb.Config.GetLabels())
	})
	items := sideBySide(ready, func(sb *pod.Sandbox) (*runtime.PodSandboxStats, bool) {
		stats, found := s.figures(ctx, sb, s.pods.SandboxStats)
		if !found {
			return nil, false
		}
		return s.sandboxStats(stats), true
	})
	return items, ctx.Err()
}

func (s *Server) readySandboxes() []*pod.Sandbox {
	return slices.DeleteFunc(s.pods.SandboxList(), func(sb *pod.Sandbox) bool { return sb.State != pod.Ready })
}

// figures reads one pod; false when it goes away or cannot be read, or ctx has ended.
func (s *Server) figures(ctx context.Context, sb *pod.Sandbox, read func(context.Context, string) (lifecycle.SandboxStats, error)) (lifecycle.SandboxStats, bool) {
	if ctx.Err() != nil {
		return lifecycle.SandboxStats{}, false
	}
	stats, err := read(ctx, string(sb.ID))
	if err != nil && ctx.Err() == nil {
		s.skip(ctx, "sandbox", sb.ID, err)
	}
	return stats, err == nil
}

// skip tells why something is missing from a list; that it is gone is no news.
func (s *Server) skip(ctx context.Context, what string, id pod.ID, err error) {
	if !errors.Is(err, pod.ErrNotFound) {
		s.log.WarnContext(ctx, "figures are left out of a list", what, id, "error", err)
	}
}

func (s *Server) containerStats(stats lifecycle.Stats) *runtime.ContainerStats {
	c := stats.Container
	return &runtime.ContainerStats{
		Attributes: &runtime.ContainerAttributes{
			Id: string(c.ID), Metadata: c.Config.GetMetadata(), Labels: c.Config.GetLabels(), Annotations: c.Config.GetAnnotations(),
		},
		Cpu:           s.cpuUsage(c.ID, stats.Cgroup, stats.At),
		Memory:        memoryUsage(stats.Cgroup, stats.At),
		Swap:          swapUsage(stats.Cgroup, stats.At),
		Io:            ioUsage(stats.Cgroup, stats.At),
		WritableLayer: filesystemUsage(stats.At, stats.RootfsPath, stats.RootfsBytes, stats.RootfsInodes),
	}
}

func (s *Server) sandboxStats(stats lifecycle.SandboxStats) *runtime.PodSandboxStats {
	sb := stats.Sandbox
	linux := &runtime.LinuxPodSandboxStats{
		Cpu:     s.cpuUsage(sb.ID, stats.Cgroup, stats.At),
		Memory:  memoryUsage(stats.Cgroup, stats.At),
		Io:      ioUsage(stats.Cgroup, stats.At),
		Network: networkUsage(stats.Interfaces, stats.At),
	}
	if p := stats.Cgroup.Pids; p != nil {
		linux.Process = &runtime.ProcessUsage{Timestamp: moment(p.At, stats.At), ProcessCount: value(p.Processes)}
	}
	for _, c := range stats.Containers {
		linux.Containers = append(linux.Containers, s.containerStats(c))
	}
	return &runtime.PodSandboxStats{
		Attributes: &runtime.PodSandboxAttributes{
			Id: string(sb.ID), Metadata: sb.Config.GetMetadata(), Labels: sb.Config.GetLabels(), Annotations: sb.Config.GetAnnotations(),
		},
		Linux: linux,
	}
}

func (s *Server) cpuUsage(id pod.ID, g lifecycle.CgroupStats, at time.Time) *runtime.CpuUsage {
	c := g.CPU
	if c == nil {
		return nil
	}
	usage := &runtime.CpuUsage{Timestamp: moment(c.At, at), UsageCoreNanoSeconds: value(c.Usage)}
	if rate, known := s.rates.observe(id, usage.Timestamp, c.Usage); known {
		usage.UsageNanoCores = value(rate)
	}
	if c.PSI != nil {
		usage.Psi = psi(pressure(c.PSI.Some), pressure(c.PSI.Full))
	}
	return usage
}

func memoryUsage(g lifecycle.CgroupStats, at time.Time) *runtime.MemoryUsage {
	m := g.Memory
	if m == nil {
		return nil
	}
	usage := &runtime.MemoryUsage{
		Timestamp: moment(m.At, at), WorkingSetBytes: value(m.WorkingSet), UsageBytes: value(m.Usage), RssBytes: value(m.RSS),
		PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults),
	}
	if m.Limit > 0 {
		usage.AvailableBytes = value(m.Limit - min(m.WorkingSet, m.Limit))
	}
	if m.PSI != nil {
		usage.Psi = psi(pressure(m.PSI.Some), pressure(m.PSI.Full))
	}
	return usage
}

func swapUsage(g lifecycle.CgroupStats, at time.Time) *runtime.SwapUsage {
	if g.Swap == nil {
		return nil
	}
	usage := &runtime.SwapUsage{Timestamp: moment(g.Swap.At, at), SwapUsageBytes: value(g.Swap.Usage)}
	if g.Swap.Limit > 0 {
		usage.SwapAvailableBytes = value(g.Swap.Limit - min(g.Swap.Usage, g.Swap.Limit))
	}
	return usage
}

func ioUsage(g lifecycle.CgroupStats, at time.Time) *runtime.IoUsage {
	if g.IO == nil || g.IO.PSI == nil {
		return nil // pressure is all that it can say
	}
	return &runtime.IoUsage{Timestamp: moment(g.IO.At, at), Psi: psi(pressure(g.IO.PSI.Some), pressure(g.IO.PSI.Full))}
}

// networkUsage takes eth0 for the pod's interface, else the first one there is.
func networkUsage(interfaces []lifecycle.Interface, at time.Time) *runtime.NetworkUsage {
	usage := &runtime.NetworkUsage{Timestamp: at.UnixNano()}
	for _, i := range interfaces {
		if i.Name == "lo" {
			continue
		}
		one := &runtime.NetworkInterfaceUsage{
			Name: i.Name, RxBytes: value(i.RxBytes), RxErrors: value(i.RxErrors), TxBytes: value(i.TxBytes), TxErrors: value(i.TxErrors),
		}
		switch {
		case usage.DefaultInterface == nil:
			usage.DefaultInterface = one
		case i.Name == "eth0":
			usage.DefaultInterface, one = one, usage.DefaultInterface
			fallthrough
		default:
			usage.Interfaces = append(usage.Interfaces, one)
		}
	}
	if usage.DefaultInterface == nil {
		return nil
	}
	return usage
}

func filesystemUsage(at time.Time, mountpoint string, bytes, inodes uint64) *runtime.FilesystemUsage {
	return &runtime.FilesystemUsage{
		Timestamp: at.UnixNano(), FsId: &runtime.FilesystemIdentifier{Mountpoint: mountpoint},
		UsedBytes: value(bytes), InodesUsed: value(inodes),
	}
}

// pressure is one line of a pressure file, in cgroup's layout.
type pressure struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

func psi(some, full pressure) *runtime.PsiStats {
	line := func(p pressure) *runtime.PsiData {
		return &runtime.PsiData{Total: p.Total, Avg10: p.Avg10, Avg60: p.Avg60, Avg300: p.Avg300}
	}
	return &runtime.PsiStats{Some: line(some), Full: line(full)}
}

func value(n uint64) *runtime.UInt64Value { return &runtime.UInt64Value{Value: n} }

// moment is when a part was read, which CRI wants to be positive.
func moment(part, whole time.Time) int64 {
	if part.IsZero() {
		part = whole
	}
	return part.UnixNano()
}
