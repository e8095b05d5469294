package lifecycle

import (
	"context"
	"errors"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
)

// attachRequest describes a pod to the network room, for ADD and for DEL alike. Its
// bandwidth annotations were checked by RunSandbox.
func attachRequest(sb pod.Sandbox) network.AttachRequest {
	bandwidth, _ := network.BandwidthOf(sb.Config.GetAnnotations())
	meta := sb.Config.GetMetadata()
	req := network.AttachRequest{
		ID: string(sb.ID), Namespace: meta.GetNamespace(), Name: meta.GetName(), UID: meta.GetUid(),
		NetNS: sb.Namespaces.Net, Status: sb.Network, CgroupParent: sb.CgroupParent, Bandwidth: bandwidth,
	}
	for _, p := range sb.Config.GetPortMappings() {
		req.Ports = append(req.Ports, network.Port{
			Protocol: p.GetProtocol().String(), ContainerPort: p.GetContainerPort(), HostPort: p.GetHostPort(), HostIP: p.GetHostIp(),
		})
	}
	if dns := sb.Config.GetDnsConfig(); dns != nil {
		req.DNS = &network.DNS{Servers: dns.GetServers(), Searches: dns.GetSearches(), Options: dns.GetOptions()}
	}
	return req
}

// collectNetwork releases addresses of pods that no record names.
func (m *Manager) collectNetwork(ctx context.Context) {
	var keep []network.AttachRequest
	for _, sb := range m.Sandboxes() {
		if ownNetwork(sb) && sb.State != pod.NotReady {
			keep = append(keep, attachRequest(sb))
		}
	}
	if err := m.network.GC(ctx, keep); err != nil && !errors.Is(err, context.Canceled) {
		warn(ctx, "release networks of pods that are gone", err)
	}
}

func podResources(sb pod.Sandbox) *pod.Resources {
	return wrap(sb.Config.GetLinux().GetResources())
}

// limits are the resources in the cgroup room's words, checked and cut to what the
// host can do as those of a new container are.
func (h host) limits(res *pod.Resources) (cgroup.Resources, error) {
	var limits cgroup.Resources
	if res == nil {
		return limits, nil
	}
	r, err := spec.Resources(res.LinuxContainerResources, h.facts, h.defaults, h.warn)
	if err != nil || r == nil {
		return limits, err
	}
	if cpu := r.CPU; cpu != nil {
		limits.CPUShares, limits.CPUPeriod, limits.CPUQuota = value(cpu.Shares), value(cpu.Period), value(cpu.Quota)
		limits.CpusetCpus, limits.CpusetMems = cpu.Cpus, cpu.Mems
	}
	if memory := r.Memory; memory != nil {
		limits.Memory, limits.MemorySwap = value(memory.Limit), value(memory.Swap)
	}
	if r.Pids != nil {
		limits.Pids = value(r.Pids.Limit)
	}
	for _, page := range r.HugepageLimits {
		if limits.Hugepages == nil {
			limits.Hugepages = map[string]uint64{}
		}
		limits.Hugepages[page.Pagesize] = page.Limit
	}
	limits.Unified = r.Unified
	return limits, nil
}

// value is what p points to, zero for nil.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
