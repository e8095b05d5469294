package nri

import (
	"fmt"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// sandboxOf is a pod in the plugins' words.
func sandboxOf(sb pod.Sandbox) *adaptation.PodSandbox {
	meta, linux := sb.Config.GetMetadata(), sb.Config.GetLinux()
	told := &adaptation.PodSandbox{
		Id: string(sb.ID), Name: meta.GetName(), Uid: meta.GetUid(), Namespace: meta.GetNamespace(),
		Labels: sb.Config.GetLabels(), Annotations: sb.Config.GetAnnotations(), RuntimeHandler: sb.Handler,
		Pid: uint32(sb.Init.PID), Ips: sb.Network.IPs,
		Linux: &adaptation.LinuxPodSandbox{
			PodOverhead: fromCRI(linux.GetOverhead()), PodResources: fromCRI(linux.GetResources()),
			CgroupParent: sb.CgroupParent, CgroupsPath: sb.CgroupParent, Resources: fromCRI(linux.GetResources()),
		},
	}
	if sb.Overhead != nil {
		told.Linux.PodOverhead = fromCRI(sb.Overhead.LinuxContainerResources)
	}
	if sb.Resources != nil {
		told.Linux.PodResources = fromCRI(sb.Resources.LinuxContainerResources)
		told.Linux.Resources = told.Linux.PodResources
	}
	for _, n := range []struct{ kind, path string }{
		{"network", sb.Namespaces.Net}, {"ipc", sb.Namespaces.IPC}, {"uts", sb.Namespaces.UTS},
		{"user", sb.Namespaces.User}, {"pid", sb.Namespaces.PID},
	} {
		if n.path != "" {
			told.Linux.Namespaces = append(told.Linux.Namespaces, &adaptation.LinuxNamespace{Type: n.kind, Path: n.path})
		}
	}
	return told
}

// states are the container's states in the plugins' words; what is not listed is
// CONTAINER_CREATED.
var states = map[pod.State]adaptation.ContainerState{
	pod.Running: adaptation.ContainerState_CONTAINER_RUNNING, pod.Stopping: adaptation.ContainerState_CONTAINER_RUNNING,
	pod.Exited: adaptation.ContainerState_CONTAINER_STOPPED, pod.Removing: adaptation.ContainerState_CONTAINER_STOPPED,
}

// containerOf is a container in the plugins' words. s is nil where nothing but the
// request is known.
func containerOf(c pod.Container, s *specs.Spec) *adaptation.Container {
	told := &adaptation.Container{
		Id: string(c.ID), PodSandboxId: string(c.SandboxID), Name: c.Config.GetMetadata().GetName(),
		State: adaptation.ContainerState_CONTAINER_CREATED, Labels: c.Config.GetLabels(), Annotations: c.Config.GetAnnotations(),
		Pid: uint32(c.Init.PID), CreatedAt: c.CreatedAt.UnixNano(),
		User:  &adaptation.User{Uid: c.User.UID, Gid: c.User.GID, AdditionalGids: c.User.Groups},
		Image: &adaptation.Image{Name: c.Image.User, Digest: c.Image.Digest, ConfigDigest: "sha256:" + c.Image.ID},
		Linux: &adaptation.LinuxContainer{Resources: &adaptation.LinuxResources{}},
	}
	if state, ok := states[c.State]; ok {
		told.State = state
	}
	if !c.StartedAt.IsZero() {
		told.StartedAt = c.StartedAt.UnixNano()
	}
	if e := c.Exit; e != nil {
		told.FinishedAt, told.ExitCode = c.FinishedAt.UnixNano(), e.Code
		told.StatusReason, told.StatusMessage = e.Reason, e.Message
	}
	for _, d := range c.Config.GetCDIDevices() {
		told.CDIDevices = append(told.CDIDevices, &adaptation.CDIDevice{Name: d.GetName()})
	}
	if s != nil {
		specified(told, s)
	}
	if c.Resources != nil { // what is in force, after updates
		told.Linux.Resources = fromCRI(c.Resources.LinuxContainerResources)
	}
	return told
}

// specified fills in what stands in the specification.
func specified(told *adaptation.Container, s *specs.Spec) {
	told.Mounts, told.Hooks = api.FromOCIMounts(s.Mounts), api.FromOCIHooks(s.Hooks)
	if p := s.Process; p != nil {
		told.Args, told.Env = p.Args, p.Env
		told.Linux.IoPriority, told.Linux.Scheduler = api.FromOCILinuxIOPriority(p.IOPriority), api.FromOCILinuxScheduler(p.Scheduler)
		if p.OOMScoreAdj != nil {
			told.Linux.OomScoreAdj = api.Int(*p.OOMScoreAdj)
		}
		for _, l := range p.Rlimits {
			told.Rlimits = append(told.Rlimits, &adaptation.POSIXRlimit{Type: l.Type, Hard: l.Hard, Soft: l.Soft})
		}
	}
	if l := s.Linux; l != nil {
		told.Linux.Namespaces, told.Linux.Devices = api.FromOCILinuxNamespaces(l.Namespaces), api.FromOCILinuxDevices(l.Devices)
		told.Linux.Resources = api.FromOCILinuxResources(l.Resources, nil)
		told.Linux.CgroupsPath, told.Linux.Sysctl = l.CgroupsPath, l.Sysctl
		told.Linux.NetDevices = api.FromOCILinuxNetDevices(l.NetDevices)
		if l.Seccomp != nil { // unconfined; the conversion does not ask
			told.Linux.SeccompPolicy = api.FromOCILinuxSeccomp(l.Seccomp)
		}
	}
}

// fromCRI is nil for nil.
func fromCRI(r *runtime.LinuxContainerResources) *adaptation.LinuxResources {
	if r == nil {
		return nil
	}
	told := &adaptation.LinuxResources{
		Memory: &adaptation.LinuxMemory{}, Cpu: &adaptation.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()},
		Unified: r.GetUnified(),
	}
	if v := r.GetMemoryLimitInBytes(); v != 0 {
		told.Memory.Limit = api.Int64(v)
	}
	if v := r.GetMemorySwapLimitInBytes(); v != 0 {
		told.Memory.Swap = api.Int64(v)
	}
	if v := r.GetCpuShares(); v != 0 {
		told.Cpu.Shares = api.UInt64(uint64(v))
	}
	if v := r.GetCpuQuota(); v != 0 {
		told.Cpu.Quota = api.Int64(v)
	}
	if v := r.GetCpuPeriod(); v != 0 {
		told.Cpu.Period = api.UInt64(uint64(v))
	}
	for _, h := range r.GetHugepageLimits() {
		told.HugepageLimits = append(told.HugepageLimits, &adaptation.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	return told
}

// toCRI is nil for nil. Limits that a request of kubelet cannot say are refused
// instead of being passed over.
func toCRI(r *adaptation.LinuxResources) (*runtime.LinuxContainerResources, error) {
	if r == nil {
		return nil, nil
	}
	for _, unknown := range []struct {
		name string
		set  bool
	}{
		{"memory.reservation", r.GetMemory().GetReservation() != nil}, {"memory.kernel", r.GetMemory().GetKernel() != nil},
		{"memory.kernel_tcp", r.GetMemory().GetKernelTcp() != nil}, {"memory.swappiness", r.GetMemory().GetSwappiness() != nil},
		{"memory.disable_oom_killer", r.GetMemory().GetDisableOomKiller() != nil},
		{"cpu.realtime_runtime", r.GetCpu().GetRealtimeRuntime() != nil}, {"cpu.realtime_period", r.GetCpu().GetRealtimePeriod() != nil},
		{"blockio_class", r.GetBlockioClass() != nil}, {"rdt_class", r.GetRdtClass() != nil},
	} {
		if unknown.set {
			return nil, fmt.Errorf("%w: a plugin's %s", pod.ErrUnsupported, unknown.name)
		}
	}
	told := &runtime.LinuxContainerResources{
		MemoryLimitInBytes: r.GetMemory().GetLimit().GetValue(), MemorySwapLimitInBytes: r.GetMemory().GetSwap().GetValue(),
		CpuShares: int64(r.GetCpu().GetShares().GetValue()), CpuQuota: r.GetCpu().GetQuota().GetValue(),
		CpuPeriod: int64(r.GetCpu().GetPeriod().GetValue()), CpusetCpus: r.GetCpu().GetCpus(), CpusetMems: r.GetCpu().GetMems(),
		Unified: r.GetUnified(),
	}
	for _, h := range r.GetHugepageLimits() {
		told.HugepageLimits = append(told.HugepageLimits, &runtime.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	return told, nil
}
