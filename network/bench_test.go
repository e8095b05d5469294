package network

import (
	"errors"
	"testing"
)

// BenchmarkPod is one pod's way through the room with the embedded default:
// namespaces, ADD, DEL, removal.
func BenchmarkPod(b *testing.B) {
	for name, ports := range map[string][]Port{"plain": nil, "hostport": {{HostPort: 18123, ContainerPort: 80}}} {
		b.Run(name, func(b *testing.B) {
			n, _ := open(b, nil)
			first := attach(b, n, nil) // the bridge stays up
			defer n.Detach(b.Context(), first)
			for b.Loop() {
				req, err := newSandbox(b.Context(), n)
				if err != nil {
					b.Fatal(err)
				}
				req.Ports = ports
				if req.Status, err = n.Attach(b.Context(), req); err != nil {
					b.Fatal(err)
				}
				if err := errors.Join(n.Detach(b.Context(), req), n.RemoveNamespaces(b.Context(), req.ID)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNamespaces is the namespaces alone, BenchmarkStats one look at a pod's figures.
func BenchmarkNamespaces(b *testing.B) {
	n, _ := open(b, nil)
	for b.Loop() {
		req, err := newSandbox(b.Context(), n)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.RemoveNamespaces(b.Context(), req.ID); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStats(b *testing.B) {
	n, _ := open(b, nil)
	req := attach(b, n, nil)
	for b.Loop() {
		if _, err := Stats(req.NetNS); err != nil {
			b.Fatal(err)
		}
	}
}
