package lifecycle

import (
	"fmt"
	"net/netip"
	"sync"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// hostPorts lets one pod at a time find out whether its host ports are free and put
// itself on record. Two pods with one port would both start, and one would never be
// reached: the port map sends what arrives to whichever rule comes first.
type hostPorts struct{ mu sync.Mutex }

// begin holds the place until the returned function is called, which may be done twice;
// pods without host ports do not wait.
func (h *hostPorts) begin(sb pod.Sandbox) (end func()) {
	if len(mapped(sb)) == 0 {
		return func() {}
	}
	h.mu.Lock()
	return sync.OnceFunc(h.mu.Unlock)
}

// mapped are the ports of the host that lead to the pod; a pod on the host's network has
// none, whatever it says: there the kernel refuses a port that is taken.
func mapped(sb pod.Sandbox) (ports []*runtime.PortMapping) {
	if !ownNetwork(sb) {
		return nil
	}
	for _, p := range sb.Config.GetPortMappings() {
		if p.GetHostPort() != 0 {
			ports = append(ports, p)
		}
	}
	return ports
}

// hostPortsFree is ErrUnavailable, with the pod that has it, when another pod has a host
// port that sb asks for. A pod has its ports until its network is taken away.
func (m *Manager) hostPortsFree(sb pod.Sandbox) error {
	asked := mapped(sb)
	for _, other := range m.Sandboxes() {
		if other.ID == sb.ID || other.State == pod.NotReady || other.State == pod.Removing {
			continue
		}
		for _, theirs := range mapped(other) {
			for _, ours := range asked {
				if clash(ours, theirs) {
					return fmt.Errorf("%w: host port %d/%s: address already in use by pod %s", pod.ErrUnavailable, ours.GetHostPort(), ours.GetProtocol(), subject(other))
				}
			}
		}
	}
	return nil
}

// clash: one packet could be meant for both. No address, or the unspecified one, is all
// addresses.
func clash(a, b *runtime.PortMapping) bool {
	if a.GetHostPort() != b.GetHostPort() || a.GetProtocol() != b.GetProtocol() {
		return false
	}
	x, errX := netip.ParseAddr(a.GetHostIp())
	y, errY := netip.ParseAddr(b.GetHostIp())
	if errX != nil || errY != nil || x.IsUnspecified() || y.IsUnspecified() {
		return true
	}
	return x.Unmap() == y.Unmap()
}
