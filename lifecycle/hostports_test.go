package lifecycle

import (
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestHostPortsClashWhenAPacketCouldBeMeantForBoth(t *testing.T) {
	port := func(p int32, protocol runtime.Protocol, ip string) *runtime.PortMapping {
		return &runtime.PortMapping{HostPort: p, ContainerPort: 80, Protocol: protocol, HostIp: ip}
	}
	for _, c := range []struct {
		name string
		a, b *runtime.PortMapping
		want bool
	}{
		{"same port on all addresses", port(80, runtime.Protocol_TCP, ""), port(80, runtime.Protocol_TCP, ""), true},
		{"all addresses and one", port(80, runtime.Protocol_TCP, "0.0.0.0"), port(80, runtime.Protocol_TCP, "192.0.2.1"), true},
		{"one address in two forms", port(80, runtime.Protocol_TCP, "::ffff:192.0.2.1"), port(80, runtime.Protocol_TCP, "192.0.2.1"), true},
		{"two addresses", port(80, runtime.Protocol_TCP, "192.0.2.2"), port(80, runtime.Protocol_TCP, "192.0.2.1"), false},
		{"two protocols", port(80, runtime.Protocol_TCP, ""), port(80, runtime.Protocol_UDP, ""), false},
		{"two ports", port(80, runtime.Protocol_TCP, ""), port(81, runtime.Protocol_TCP, ""), false},
	} {
		if clash(c.a, c.b) != c.want || clash(c.b, c.a) != c.want {
			t.Errorf("%s: not %v", c.name, c.want)
		}
	}
}
