package network

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestDialReachesTheLoopbackOfThePodOnly(t *testing.T) {
	n, _ := open(t, nil)
	a := sandbox(t, n)
	serve(t, a.NetNS, "127.0.0.1:8080", "pod v4")
	serve(t, a.NetNS, "[::1]:8081", "pod v6")
	serve(t, "", "127.0.0.1:8082", "host")
	for _, c := range []struct {
		netns string
		port  int32
		want  string
	}{{a.NetNS, 8080, "pod v4"}, {a.NetNS, 8081, "pod v6"}, {"", 8082, "host"}} {
		conn, err := Dial(t.Context(), c.netns, c.port)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Error("the connection cannot be closed for writing alone")
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != c.want {
			t.Errorf("port %d said %q, %v; want %q", c.port, got, err, c.want)
		}
		conn.Close()
	}
	if _, err := Dial(t.Context(), a.NetNS, 8082); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("the host's port inside the pod: %v", err)
	}
	if _, err := Dial(t.Context(), a.NetNS+"/nothing", 80); err == nil {
		t.Error("a namespace that does not exist was entered")
	}
	for _, port := range []int32{0, -1, 65536} {
		if _, err := Dial(t.Context(), a.NetNS, port); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, a.NetNS, 8080); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestStatsCountThePodsTraffic(t *testing.T) {
	n, _ := open(t, nil)
	a := attach(t, n, nil)
	before, err := Stats(a.NetNS)
	if err != nil || len(before) != 1 || before[0].Name != "eth0" {
		t.Fatalf("%+v, %v; want eth0 alone", before, err)
	}
	const size = 100_000
	serve(t, "", ":8089", strings.Repeat("x", size))
	if got, err := ask(a.NetNS, hostIPv4+":8089"); err != nil || len(got) != size {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	after, err := Stats(a.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	rx, tx := after[0].RxBytes-before[0].RxBytes, after[0].TxBytes-before[0].TxBytes
	if rx < size || rx > size+size/5 || tx == 0 || tx > size/5 || after[0].RxPackets <= before[0].RxPackets {
		t.Errorf("received %d bytes, sent %d, for %d bytes of payload", rx, tx, size)
	}
	if host, err := Stats(""); err != nil || len(host) < 2 {
		t.Errorf("the host's: %+v, %v", host, err)
	}
	if _, err := Stats("/does/not/exist"); err == nil {
		t.Error("no error for a namespace that does not exist")
	}
}

func TestFeaturesAreProbedWithoutTouchingTheHost(t *testing.T) {
	n, _ := open(t, nil)
	before := census(t, n)
	began := time.Now()
	for _, f := range Features() {
		t.Logf("%-35s %-5v %s", f.Name, f.OK, f.Consequence)
		if f.Name == "" || f.Consequence == "" || strings.Contains(f.Consequence, "\n") {
			t.Errorf("not one line: %+v", f)
		}
		for _, needed := range []string{"network, IPC and UTS namespaces", "veth", "bridge"} {
			if f.Name == needed && !f.OK {
				t.Errorf("%s is missing, and yet the other tests ran", needed)
			}
		}
	}
	t.Logf("took %s", time.Since(began))
	sameAs(t, n, before)
}

func TestASharedNamespaceThreadIsNeverReused(t *testing.T) {
	n, _ := open(t, nil)
	a := sandbox(t, n)
	for range 20 {
		if _, err := Stats(a.NetNS); err != nil {
			t.Fatal(err)
		}
		// Would any goroutine run on a thread that stayed in the pod, it would not see eth0.
		if _, err := net.InterfaceByName("eth0"); err != nil {
			t.Fatal(err)
		}
	}
}
