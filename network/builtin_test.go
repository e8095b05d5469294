package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestSubnetsFollowTheBridgeAndAvoidTheHostsRoutes(t *testing.T) {
	for _, c := range []struct {
		name, bridge string
		taken        []netip.Prefix
		ipv6         bool
		want         string
	}{
		{"usual instance", "vitrine0", nil, true, "[10.187.0.0/20 fd4c:3e31:41ff::/64]"},
		{"without IPv6", "vitrine0", nil, false, "[10.187.0.0/20]"},
		{"its range is taken", "vitrine0", prefixes("10.187.0.0/16"), false, "[10.188.0.0/20]"},
		{"a single address in it", "vitrine0", prefixes("10.187.3.4/32", "fd4c:3e31:41ff::1/128"), true, "[10.187.16.0/20 fd4c:3e31:41ff:1::/64]"},
		{"all but the first are taken", "vitrine0", prefixes("10.129.0.0/16", "10.130.0.0/15", "10.132.0.0/14", "10.136.0.0/13", "10.144.0.0/12", "10.160.0.0/11", "10.192.0.0/10"), false, "[10.128.0.0/20]"},
		{"another instance", "vit-01234567", nil, true, "[10.164.144.0/20 fd9e:426f:68da::/64]"},
	} {
		got, err := chooseSubnets(c.bridge, c.taken, c.ipv6)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
	if got, err := chooseSubnets("vitrine0", prefixes("10.0.0.0/8"), true); !errors.Is(err, pod.ErrExhausted) {
		t.Errorf("everything taken: %v, %v", got, err)
	}
}

func TestChosenSubnetsAreRememberedUntilTheHostNeedsThem(t *testing.T) {
	n, _ := open(t, nil)
	first, err := n.builtin.subnets()
	if err != nil {
		t.Fatal(err)
	}
	route := "route add blackhole " + first[0].String()
	if again, err := n.builtin.subnets(); err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("second time: %v, %v; want %v", again, err, first)
	}
	if err := ip(route); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ip(strings.Replace(route, "add", "del", 1)) })
	moved, err := n.builtin.subnets()
	if err != nil || moved[0].Overlaps(first[0]) {
		t.Errorf("with a route into it: %v, %v", moved, err)
	}
	if err := os.WriteFile(n.builtin.choicePath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := n.builtin.subnets(); err != nil || len(again) != len(first) {
		t.Errorf("with a damaged memory: %v, %v", again, err)
	}
}

func TestConfigRefusesWhatCannotWork(t *testing.T) {
	for name, config := range map[string]Config{
		"bridge too long":    {Bridge: "a-bridge-of-sixteen"},
		"bridge for a shell": {Bridge: "a;b"},
		"host bits":          {Subnets: prefixes("10.1.2.3/16")},
		"two of one family":  {Subnets: prefixes("10.1.0.0/16", "10.2.0.0/16")},
		"sysctl":             {Sysctls: map[string]string{"vm.swappiness": "1"}},
	} {
		config.Dir, config.CacheDir, config.ConfDir = t.TempDir(), t.TempDir(), t.TempDir()
		if n, err := New(t.Context(), config); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
}

func TestConfiguredBridgeAndSubnetsAreUsed(t *testing.T) {
	n, _ := open(t, func(c *Config) { c.Bridge, c.Subnets = "mybr0", prefixes("10.99.0.0/24") })
	a := attach(t, n, nil)
	if fmt.Sprint(a.Status.IPs) != "[10.99.0.2]" || a.Status.Network != "mybr0" {
		t.Errorf("got %+v", a.Status)
	}
	if _, err := net.InterfaceByName("mybr0"); err != nil {
		t.Error(err)
	}
}

func TestBridgeKeepsItsAddressWhenPortsComeAndGo(t *testing.T) {
	n, _ := open(t, nil)
	hardware := func() string {
		link, err := net.InterfaceByName(n.config.Bridge)
		if err != nil {
			t.Fatal(err)
		}
		return link.HardwareAddr.String()
	}
	a := attach(t, n, nil)
	before := hardware()
	for range 3 {
		b := attach(t, n, nil)
		if err := n.Detach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := hardware(); got != before {
			t.Errorf("the bridge's address went from %s to %s", before, got)
		}
		a = b
	}
}

func TestMasqueradingWorksWithIptablesToo(t *testing.T) {
	n, _ := open(t, nil)
	a := attach(t, n, nil)
	subnets, err := n.builtin.subnets()
	if err != nil {
		t.Fatal(err)
	}
	if err := unmasquerade(t.Context(), n.config.Bridge, subnets); err != nil {
		t.Fatal(err)
	}
	for _, s := range subnets {
		for range 2 { // the second time it is there
			if err := iptablesMasquerade(t.Context(), n.config.Bridge, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	reachesWorld(t, a)
	for range 2 {
		if err := unmasquerade(t.Context(), n.config.Bridge, subnets); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		if out, err := exec.Command(program).Output(); err != nil || strings.Contains(string(out), "VITRINE") {
			t.Errorf("%s: %v\n%s", program, err, out)
		}
	}
}

// reachesWorld checks that the world sees the pod under the host's address.
func reachesWorld(t *testing.T, req AttachRequest) {
	t.Helper()
	for _, c := range []struct{ address, seenAs string }{{worldIPv4, hostIPv4}, {worldIPv6, hostIPv6}} {
		var from string
		l := listenIn(t, worldNS, net.JoinHostPort(c.address, "0"), func(conn net.Conn) { from = conn.RemoteAddr().String() })
		mustAsk(t, req.NetNS, l, "")
		if host, _, _ := net.SplitHostPort(from); host != c.seenAs {
			t.Errorf("the world saw %s, want %s", from, c.seenAs)
		}
	}
}

func TestMasqueradingComesBackAfterAFirewallReload(t *testing.T) {
	n, _ := open(t, nil)
	attach(t, n, nil)
	if out, err := exec.Command("nft", "delete", "table", "inet", nftTable(n.config.Bridge)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.builtin.prepared = n.builtin.prepared.Add(-2 * preparedFresh)
	reachesWorld(t, attach(t, n, nil))
}

func TestFirewallOpensAHostThatForwardsNothing(t *testing.T) {
	for _, program := range []string{"iptables", "ip6tables"} {
		if out, err := exec.Command(program, "-P", "FORWARD", "DROP").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { exec.Command(program, "-P", "FORWARD", "ACCEPT").Run() })
	}
	closed, _ := open(t, nil)
	a := attach(t, closed, nil)
	l := listenIn(t, worldNS, net.JoinHostPort(worldIPv4, "0"), func(net.Conn) {})
	if _, err := ask(a.NetNS, l); err == nil {
		t.Error("the host forwards although its policy is DROP: this test shows nothing")
	}
	n, _ := open(t, func(c *Config) { c.Firewall = true })
	b := attach(t, n, nil)
	reachesWorld(t, b)
	if err := n.Detach(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		out, err := exec.Command(program).Output()
		for _, ip := range b.Status.IPs {
			if err != nil || strings.Contains(string(out), ip) {
				t.Errorf("%s still has a rule of %s: %v\n%s", program, ip, err, out)
			}
		}
	}
}
