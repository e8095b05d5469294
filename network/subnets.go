package network

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// choice is the content of default.json.
type choice struct {
	Bridge  string         `json:"bridge"`
	Subnets []netip.Prefix `json:"subnets"`
}

// subnets returns the configured ranges, the ones chosen earlier, or new ones. A
// choice is given up when the host has since got a route into it and the bridge is gone.
func (b *builtin) subnets() ([]netip.Prefix, error) {
	if len(b.config.Subnets) > 0 {
		return b.config.Subnets, nil
	}
	taken, bridgeExists, err := hostPrefixes(b.config.Bridge)
	if err != nil {
		return nil, err
	}
	if before := b.earlierChoice(); len(before) > 0 && (bridgeExists || !overlap(before, taken)) {
		return before, nil
	}
	subnets, err := chooseSubnets(b.config.Bridge, taken, hasIPv6())
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(choice{b.config.Bridge, subnets})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.choicePath()+newSuffix, raw, 0o600); err != nil {
		return nil, err
	}
	return subnets, os.Rename(b.choicePath()+newSuffix, b.choicePath())
}

// earlierChoice is what default.json says of this bridge; nil when it says nothing
// that can be believed.
func (b *builtin) earlierChoice() []netip.Prefix {
	var c choice
	raw, err := readBounded(b.choicePath(), 4096)
	if err != nil || json.Unmarshal(raw, &c) != nil || c.Bridge != b.config.Bridge || slices.ContainsFunc(c.Subnets, notValid) {
		return nil
	}
	return c.Subnets
}

func overlap(subnets, taken []netip.Prefix) bool {
	return slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return slices.ContainsFunc(taken, s.Overlaps) })
}

func notValid(p netip.Prefix) bool { return !p.IsValid() }

// IPv4 ranges are /20s (4,094 pods) from 10.128.0.0 to 10.223.255.255: none of those
// that other runtimes, network plugins and service ranges take by default (10.42,
// 10.43, 10.85, 10.88, 10.89, 10.96–10.111, 10.244).
const (
	firstIPv4   = 10<<24 | 128<<16
	stepIPv4    = 1 << 12
	candidates  = 96 << 16 / stepIPv4
	usualOffset = (187 - 128) << 16 / stepIPv4 // the usual instance: 10.187.0.0/20
)

// chooseSubnets derives ranges from the bridge's name and moves on while they overlap
// with what the host knows. It is pure.
func chooseSubnets(bridge string, taken []netip.Prefix, ipv6 bool) ([]netip.Prefix, error) {
	sum := sha256.Sum256([]byte(bridge))
	offset := binary.BigEndian.Uint32(sum[:])
	if bridge == defaultBridge {
		offset = usualOffset
	}
	var subnets []netip.Prefix
	for i := uint32(0); i < candidates && len(subnets) == 0; i++ {
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], firstIPv4+(offset%candidates+i)%candidates*stepIPv4)
		if p := netip.PrefixFrom(netip.AddrFrom4(addr), 20); !slices.ContainsFunc(taken, p.Overlaps) {
			subnets = append(subnets, p)
		}
	}
	if len(subnets) == 0 {
		return nil, fmt.Errorf("%w: every /20 from 10.128.0.0 to 10.223.255.255 overlaps with a route of this host; configure subnets", pod.ErrExhausted)
	}
	for i := range byte(16) {
		// A unique local address, RFC 4193.
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, sum[4], sum[5], sum[6], sum[7], sum[8], 0, i}), 64)
		if ipv6 && !slices.ContainsFunc(taken, p.Overlaps) {
			return append(subnets, p), nil
		}
	}
	return subnets, nil
}

// hostPrefixes lists the destinations of the host's routes, those of the bridge
// excepted, and says whether the bridge exists.
func hostPrefixes(bridge string) (taken []netip.Prefix, exists bool, err error) {
	own := -1
	if link, err := netlink.LinkByName(bridge); err == nil {
		own, exists = link.Attrs().Index, true
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, false, fmt.Errorf("list the host's routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil || r.LinkIndex == own {
				continue
			}
			if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
				taken = append(taken, p)
			}
		}
	}
	return taken, exists, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	if addr.Is4In6() {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones), ok
}

// hasIPv6 says whether the host's kernel has IPv6 and it is not switched off.
func hasIPv6() bool {
	raw, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && len(raw) > 0 && raw[0] == '0'
}
