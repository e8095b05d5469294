package network

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestPodsOfTheEmbeddedDefaultReachEachOtherAndTheHostOnBothFamilies(t *testing.T) {
	n, _ := open(t, nil)
	a, b := attach(t, n, nil), attach(t, n, nil)
	for _, req := range []AttachRequest{a, b} {
		if len(req.Status.IPs) != 2 || !netip.MustParseAddr(req.Status.IPs[0]).Is4() || !netip.MustParseAddr(req.Status.IPs[1]).Is6() {
			t.Fatalf("addresses %v: want IPv4 first, then IPv6", req.Status.IPs)
		}
		serve(t, req.NetNS, ":80", "pod "+req.ID)
	}
	serve(t, "", ":8088", "host")
	for i := range 2 {
		family := "IPv" + strconv.Itoa(4+2*i)
		t.Run(family, func(t *testing.T) {
			mustAsk(t, a.NetNS, net.JoinHostPort(b.Status.IPs[i], "80"), "pod "+b.ID)
			mustAsk(t, b.NetNS, net.JoinHostPort(a.Status.IPs[i], "80"), "pod "+a.ID)
			mustAsk(t, "", net.JoinHostPort(a.Status.IPs[i], "80"), "pod "+a.ID)
			mustAsk(t, a.NetNS, net.JoinHostPort([]string{hostIPv4, hostIPv6}[i], "8088"), "host")
			ping(t, a.NetNS, b.Status.IPs[i])
		})
	}
}

// ping sends ICMP echo requests from inside the namespace until one is answered.
func ping(t *testing.T, netns, address string) {
	t.Helper()
	err := inNetNS(netns, func() error {
		network, request, reply := "ip4:icmp", byte(8), byte(0)
		if strings.Contains(address, ":") {
			network, request, reply = "ip6:ipv6-icmp", 128, 129
		}
		conn, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		defer conn.Close()
		c := conn.(*net.IPConn)
		echo := []byte{request, 0, 0, 0, 0x12, 0x34, 0, 1}
		if request == 8 { // IPv6's checksum is the kernel's affair
			echo[2], echo[3] = ^byte(0x1a), ^byte(0x35)
		}
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Write(echo); err != nil {
			return err
		}
		for buf := make([]byte, 1500); ; {
			got, _, err := c.ReadFrom(buf) // without the IP header
			if err != nil {
				return err
			}
			if got >= 8 && buf[0] == reply && buf[4] == 0x12 {
				return nil
			}
		}
	})
	if err != nil {
		t.Errorf("ping %s: %v", address, err)
	}
}

func TestPodsReachTheWorldUnderTheHostsAddress(t *testing.T) {
	n, _ := open(t, nil)
	reachesWorld(t, attach(t, n, nil))
}

// listenIn serves inside a namespace; each connection is shown to see and closed.
func listenIn(t *testing.T, netns, address string, see func(net.Conn)) string {
	t.Helper()
	var l net.Listener
	if err := inNetNS(netns, func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			see(c)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

func TestFiftyPodsAtOnceLeaveNothing(t *testing.T) {
	n, _ := open(t, nil)
	first := attach(t, n, func(r *AttachRequest) { r.Ports = []Port{{HostPort: 19999, ContainerPort: 80}} })
	if err := errors.Join(n.Detach(t.Context(), first), n.RemoveNamespaces(t.Context(), first.ID)); err != nil {
		t.Fatal(err)
	}
	before := census(t, n) // with the bridge and the tables that the first pod brings
	var group sync.WaitGroup
	var mu sync.Mutex
	addresses := map[string]string{}
	for i := range 50 {
		group.Go(func() {
			req, err := newSandbox(t.Context(), n)
			if err == nil && i%5 == 0 {
				req.Ports = []Port{{HostPort: int32(20000 + i), ContainerPort: 80}}
			}
			if err == nil {
				req.Status, err = n.Attach(t.Context(), req)
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, ip := range req.Status.IPs {
				if other := addresses[ip]; other != "" {
					t.Errorf("%s was given to %s and to %s", ip, other, req.ID)
				}
				addresses[ip] = req.ID
			}
			mu.Unlock()
			if err := errors.Join(n.Detach(t.Context(), req), n.RemoveNamespaces(t.Context(), req.ID)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	sameAs(t, n, before)
}

func TestWipeTakesTheBridgeAndItsTablesAway(t *testing.T) {
	n, _ := open(t, nil)
	before := census(t, n)
	a := attach(t, n, func(r *AttachRequest) { r.Ports = []Port{{HostPort: 19998, ContainerPort: 80}} })
	if err := n.Wipe(t.Context()); !errors.Is(err, pod.ErrState) {
		t.Errorf("wipe with a pod attached: %v", err)
	}
	if err := errors.Join(n.Detach(t.Context(), a), n.RemoveNamespaces(t.Context(), a.ID), n.Wipe(t.Context()), n.Wipe(t.Context())); err != nil {
		t.Fatal(err)
	}
	sameAs(t, n, before)
	attach(t, n, nil) // and it can be used again
}

func TestTwoInstancesLiveSideBySide(t *testing.T) {
	one, _ := open(t, nil)
	two, _ := open(t, nil)
	a, b := attach(t, one, nil), attach(t, two, nil)
	if one.config.Bridge == two.config.Bridge {
		t.Fatalf("both use %s", one.config.Bridge)
	}
	for i, ip := range a.Status.IPs {
		if ip == b.Status.IPs[i] {
			t.Errorf("both gave out %s", ip)
		}
	}
	serve(t, b.NetNS, ":80", "b")
	mustAsk(t, a.NetNS, net.JoinHostPort(b.Status.IPs[0], "80"), "b")
}

// embeddedPlugins returns the plugins of the embedded default as JSON.
func embeddedPlugins(t testing.TB, n *Network) []string {
	t.Helper()
	list, err := n.builtin.conflist(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range list.Plugins {
		out = append(out, string(p.Bytes))
	}
	return out
}
