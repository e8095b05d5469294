package network

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHostPortsAnswerOnLoopbackAndHostAddressAndForThePodItself(t *testing.T) {
	n, _ := open(t, nil)
	a := attach(t, n, func(r *AttachRequest) {
		r.Ports = []Port{
			{Protocol: "TCP", HostPort: 18080, ContainerPort: 80},
			{HostPort: 18081, ContainerPort: 80, HostIP: "127.0.0.1"},
			{HostPort: 0, ContainerPort: 81},
		}
	})
	serve(t, a.NetNS, ":80", "pod")
	b := attach(t, n, nil)
	for _, c := range []struct{ where, netns, address string }{
		{"from the host through 127.0.0.1", "", "127.0.0.1:18080"},
		{"from the host through localhost's second port", "", "127.0.0.1:18081"},
		{"from the host through its own IPv4 address", "", hostIPv4 + ":18080"},
		{"from the host through its own IPv6 address", "", net.JoinHostPort(hostIPv6, "18080")},
		{"from the world, IPv4", worldNS, hostIPv4 + ":18080"},
		{"from the world, IPv6", worldNS, net.JoinHostPort(hostIPv6, "18080")},
		{"from another pod", b.NetNS, hostIPv4 + ":18080"},
		{"from the pod itself", a.NetNS, hostIPv4 + ":18080"},
	} {
		t.Run(c.where, func(t *testing.T) { mustAsk(t, c.netns, c.address, "pod") })
	}
	if _, err := ask(worldNS, hostIPv4+":18081"); err == nil {
		t.Error("a port of 127.0.0.1 only is open to the world")
	}
	if err := n.Detach(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if _, err := ask("", "127.0.0.1:18080"); err == nil {
		t.Error("the port answers after Detach")
	}
}

func TestUDPHostPortFollowsThePodThatTakesItOver(t *testing.T) {
	n, _ := open(t, nil)
	client, err := net.Dial("udp", hostIPv4+":15353")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for round := range 2 {
		a := attach(t, n, func(r *AttachRequest) { r.Ports = []Port{{Protocol: "UDP", HostPort: 15353, ContainerPort: 53}} })
		var server net.PacketConn
		if err := inNetNS(a.NetNS, func() (err error) { server, err = net.ListenPacket("udp4", ":53"); return err }); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("round ", round)
		var answering sync.WaitGroup
		answering.Go(func() {
			buf := make([]byte, 64)
			for {
				_, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				server.WriteTo([]byte(name), from)
			}
		})
		eventually(t, "an answer of "+name+" to the same client socket", func() bool {
			buf := make([]byte, 64)
			client.SetDeadline(time.Now().Add(200 * time.Millisecond))
			client.Write([]byte("?"))
			got, err := client.Read(buf)
			return err == nil && string(buf[:got]) == name
		})
		if err := n.Detach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		server.Close()
		answering.Wait()
	}
}

func TestPortmapRunsOnlyForPodsWithMappings(t *testing.T) {
	n, _ := open(t, nil)
	exporter, ctx := recorded(t)
	run := func(ports []Port) string {
		exporter.Reset()
		req := sandbox(t, n)
		req.Ports = ports
		var err error
		if req.Status, err = n.Attach(ctx, req); err != nil {
			t.Fatal(err)
		}
		if err := n.Check(ctx, req); err != nil {
			t.Error(err)
		}
		if err := n.Detach(ctx, req); err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, s := range exporter.GetSpans() {
			if s.Name == "network.cni" {
				seen = append(seen, attr(s, "vitrine.cni.command")+" "+attr(s, "vitrine.cni.plugin"))
			}
		}
		return strings.Join(seen, ", ")
	}
	if got, want := run([]Port{{HostPort: 0, ContainerPort: 80}}), "ADD bridge, CHECK bridge, DEL bridge"; got != want {
		t.Errorf("without mappings: %s; want %s", got, want)
	}
	if got, want := run([]Port{{HostPort: 18090, ContainerPort: 80}}), "ADD bridge, ADD portmap, CHECK bridge, CHECK portmap, DEL portmap, DEL bridge"; got != want {
		t.Errorf("with a mapping: %s; want %s", got, want)
	}
}
