package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// freePort is a TCP port that nobody listens on now.
func freePort(t testing.TB) int32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// hostAddress is the gateway of the instance's bridge: an address of the host that
// is not loopback.
func hostAddress(t testing.TB, n *node) string {
	t.Helper()
	return strings.TrimSuffix(n.Subnet, "0/24") + "1"
}

// fetch gets a page, trying for some seconds, since a server may still be starting.
func fetch(t testing.TB, url string) string {
	t.Helper()
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.Now().Add(harness.Scale(5 * time.Second))
	for {
		r, err := client.Get(url)
		if err == nil {
			body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			r.Body.Close()
			if err == nil {
				return string(body)
			}
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", url, err)
			return ""
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stats reads the figures of a running container and its pod and checks that they
// are plausible: present, with times, and not zero where they cannot be.
func stats(t *testing.T, n *node, sandbox, id string) {
	c := harness.Must(n.cri.ContainerStats(n.ctx, &runtime.ContainerStatsRequest{ContainerId: id}))(t).GetStats()
	if c.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || c.GetCpu().GetTimestamp() == 0 {
		t.Errorf("cpu: %v", c.GetCpu())
	}
	if working := c.GetMemory().GetWorkingSetBytes().GetValue(); working == 0 || working > 256<<20 {
		t.Errorf("working set: %d bytes", working)
	}
	if c.GetWritableLayer().GetTimestamp() == 0 || c.GetWritableLayer().GetFsId().GetMountpoint() == "" {
		t.Errorf("writable layer: %v", c.GetWritableLayer())
	}
	if c.GetAttributes().GetId() != id || c.GetAttributes().GetMetadata().GetName() != "web" {
		t.Errorf("attributes: %v", c.GetAttributes())
	}
	p := harness.Must(n.cri.PodSandboxStats(n.ctx, &runtime.PodSandboxStatsRequest{PodSandboxId: sandbox}))(t).GetStats().GetLinux()
	if p.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || p.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
		t.Errorf("pod: cpu %v, memory %v", p.GetCpu(), p.GetMemory())
	}
	if nic := p.GetNetwork().GetDefaultInterface(); nic.GetName() != "eth0" || nic.GetRxBytes().GetValue() == 0 {
		t.Errorf("network: %v", nic)
	}
	if got := p.GetProcess().GetProcessCount().GetValue(); got < 2 {
		t.Errorf("%d processes in the pod", got)
	}
	list := harness.Must(n.cri.ListContainerStats(n.ctx, &runtime.ListContainerStatsRequest{}))(t)
	if len(list.Stats) != 2 {
		t.Errorf("%d containers have stats, want the two that run", len(list.Stats))
	}
}
