package network

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Interface is one network interface's figures: bytes, packets, errors and drops
// since it was made.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Stats returns the figures of the interfaces in the network namespace at netnsPath,
// loopback left out, in the kernel's order; an empty path is the host's namespace.
func Stats(netnsPath string) ([]Interface, error) {
	var out []Interface
	err := inNetNS(netnsPath, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			attrs := link.Attrs()
			s := attrs.Statistics
			if s == nil || attrs.EncapType == "loopback" {
				continue
			}
			out = append(out, Interface{Name: attrs.Name,
				RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
				TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read figures of network interfaces: %w", err)
	}
	return out, nil
}
