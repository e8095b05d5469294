package lifecycle

import (
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
