package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/vitrine-runtime/vitrine/pod"
)

// ifName is the pod's interface, as kubelet and every plugin expect it.
const ifName = "eth0"

// AttachRequest is one pod's attachment to its network.
type AttachRequest struct {
	// ID is the sandbox; Namespace, Name and UID are the pod's, for the plugins.
	ID, Namespace, Name, UID string
	// NetNS is the path of the pod's network namespace. Detach does without.
	NetNS string
	// Ports are the pod's port mappings; those with HostPort 0 mean nothing.
	Ports []Port
	// DNS, Bandwidth and IPRanges go to plugins that declare the capability dns,
	// bandwidth, ipRanges. Nil passes nothing.
	DNS       *DNS
	Bandwidth *Bandwidth
	IPRanges  [][]IPRange
	// CgroupParent is the pod's cgroup, for plugins with the capability cgroupPath.
	CgroupParent string
	// Status is what Attach returned, for Detach and GC.
	Status pod.NetworkStatus
}

// Port maps a port of the host to one of the pod.
type Port struct {
	// Protocol is tcp, udp or sctp, in any case; empty means tcp.
	Protocol string
	// HostPort 0 means no mapping.
	HostPort, ContainerPort int32
	// HostIP restricts the mapping to one of the host's addresses; empty means all.
	HostIP string
}

// DNS is the pod's resolver configuration.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// Bandwidth limits the pod's traffic: rates in bits per second, bursts in bits. 0 is no limit.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// IPRange is a range of addresses of which the pod's is to be.
type IPRange struct {
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart,omitempty"`
	RangeEnd   string `json:"rangeEnd,omitempty"`
	Gateway    string `json:"gateway,omitempty"`
}

// portMapping is the capability portMappings as CONVENTIONS.md of CNI has it.
type portMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// runtimeConf is what libcni is told of the request. Errors are pod.ErrInvalid.
func (r AttachRequest) runtimeConf() (*libcni.RuntimeConf, error) {
	if err := checkID(r.ID); err != nil {
		return nil, err
	}
	args := [][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", r.Namespace},
		{"K8S_POD_NAME", r.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", r.ID},
		{"K8S_POD_UID", r.UID},
	}
	for _, arg := range args {
		if strings.ContainsAny(arg[1], ";=\x00\n") {
			return nil, fmt.Errorf("%w: %s %.80q cannot be passed to CNI plugins", pod.ErrInvalid, arg[0], arg[1])
		}
	}
	capabilities := map[string]any{}
	ports, err := portMappings(r.Ports)
	if err != nil {
		return nil, err
	}
	if len(ports) > 0 {
		capabilities["portMappings"] = ports
	}
	if r.DNS != nil {
		capabilities["dns"] = r.DNS
	}
	if r.Bandwidth != nil {
		capabilities["bandwidth"] = r.Bandwidth
	}
	if len(r.IPRanges) > 0 {
		capabilities["ipRanges"] = r.IPRanges
	}
	if r.CgroupParent != "" {
		capabilities["cgroupPath"] = r.CgroupParent
	}
	return &libcni.RuntimeConf{ContainerID: r.ID, NetNS: r.NetNS, IfName: ifName, Args: args, CapabilityArgs: capabilities}, nil
}

func portMappings(ports []Port) ([]portMapping, error) {
	var out []portMapping
	for _, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		protocol := strings.ToLower(p.Protocol)
		fill(&protocol, "tcp")
		if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			return nil, fmt.Errorf("%w: host port %d: protocol %q is none of tcp, udp, sctp", pod.ErrInvalid, p.HostPort, p.Protocol)
		}
		if p.HostPort < 0 || p.HostPort > 65535 || p.ContainerPort < 1 || p.ContainerPort > 65535 {
			return nil, fmt.Errorf("%w: port mapping %d to %d: ports are 1 to 65535", pod.ErrInvalid, p.HostPort, p.ContainerPort)
		}
		if p.HostIP != "" {
			if _, err := netip.ParseAddr(p.HostIP); err != nil {
				return nil, fmt.Errorf("%w: host port %d: host address: %w", pod.ErrInvalid, p.HostPort, err)
			}
		}
		out = append(out, portMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: protocol, HostIP: p.HostIP})
	}
	return out, nil
}

// effective is the list that is run for an attachment. The portmap plugin is left
// out when the pod maps no port: it would look for iptables twice to find that out
// (docs/decisions/0003-cni-portmap.md). What an attachment remembers is the whole
// list; DEL leaves out the same, because the mappings are remembered too.
func effective(list *conflist, capabilities map[string]any) *libcni.NetworkConfigList {
	if _, mapped := capabilities["portMappings"]; mapped {
		return list.NetworkConfigList
	}
	run := *list.NetworkConfigList
	run.Plugins = nil
	for _, p := range list.Plugins {
		if p.Network.Type != "portmap" {
			run.Plugins = append(run.Plugins, p)
		}
	}
	if len(run.Plugins) == 0 {
		return list.NetworkConfigList
	}
	return &run
}
