package network

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Feature is one line of `vitrine check`.
type Feature struct {
	// Name is what is looked for.
	Name string
	OK   bool
	// Consequence is what follows for pods, in one sentence: what works if OK, what
	// does not otherwise.
	Consequence string
}

// featureTime bounds one probe that runs a program.
const featureTime = 5 * time.Second

// Features says what this host can and cannot do for pods' networks. Everything is
// tried in a network namespace that is thrown away; the host is not touched.
func Features() []Feature {
	all := []Feature{probe("network, IPC and UTS namespaces", probeNamespaces, "pods have their own network, IPC and hostname", "no pod with its own network can be run")}
	if !all[0].OK {
		return all
	}
	inside := func(fn func() error) func() error {
		return func() error {
			return onThread(func() error {
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					return err
				}
				return fn()
			})
		}
	}
	program := func(name string, args ...string) func() error {
		return inside(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), featureTime)
			defer cancel()
			_, err := run(ctx, nil, name, args...)
			return err
		})
	}
	attrs := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	return append(all,
		probe("user namespaces", probeUserNS, "pods with hostUsers: false can be run", "pods with hostUsers: false are refused"),
		probe("veth", inside(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs("probe0"), PeerName: "probe1"})
		}), "the embedded default and most CNI plugins work", "the embedded default and most CNI plugins cannot connect a pod"),
		probe("bridge", inside(func() error { return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs("probe0")}) }),
			"the embedded default network works", "the embedded default network does not work: install a CNI configuration that needs no bridge"),
		probe("IPv6", probeIPv6, "pods get addresses of both families", "pods of the embedded default get IPv4 addresses only"),
		probe("nftables (nft)", program("nft", "list", "ruleset"),
			"pods reach the world, host ports are set in one transaction", "the embedded default uses iptables, which is slower"),
		probe("iptables", program("iptables", "-t", "nat", "-S"),
			"CNI plugins that use iptables work", "without nftables too, pods reach the node only; CNI plugins that use iptables fail"),
		probe("ip6tables", program("ip6tables", "-t", "nat", "-S"),
			"CNI plugins that use ip6tables work", "host ports and masquerading of IPv6 need nftables"),
		probe("connection tracking over netlink", inside(func() error {
			_, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
			return err
		}), "UDP host ports follow a new pod at once", "UDP flows to a host port may hang on its former pod for up to 3 minutes"),
		probe("traffic shaping (ifb, tbf)", inside(func() error {
			return netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs("probe0")})
		}), "bandwidth annotations work with the bandwidth plugin", "the bandwidth plugin cannot limit a pod's traffic"),
		probe("SCTP", inside(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}), "pods can use SCTP", "pods cannot use SCTP, host ports of it have no effect"),
	)
}

// probe makes a line of what trying says. The error's text goes with the consequence.
func probe(name string, try func() error, with, without string) Feature {
	if err := try(); err != nil {
		return Feature{name, false, without + ": " + err.Error()}
	}
	return Feature{name, true, with}
}

func probeNamespaces() error {
	return onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS) })
}

// probeUserNS makes one as CreateNamespaces does, pinning nothing.
func probeUserNS() error {
	maps := []IDMap{{Container: 0, Host: 1 << 16, Size: 1}}
	return makeOwned(UserNS{UIDs: maps, GIDs: maps}, unix.CLONE_NEWUSER, func(string) error { return nil })
}

func probeIPv6() error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return errors.New("the kernel has none")
	}
	if !hasIPv6() {
		return errors.New("net.ipv6.conf.all.disable_ipv6 is set")
	}
	return nil
}
