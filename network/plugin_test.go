package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/vitrine-runtime/vitrine/pod"
)

// recorded returns an exporter and a ctx under whose root span spans are recorded.
func recorded(t *testing.T) (*tracetest.InMemoryExporter, context.Context) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	ctx, root := provider.Tracer("test").Start(t.Context(), "root")
	t.Cleanup(func() { root.End(); provider.Shutdown(context.Background()) })
	return exporter, ctx
}

func attr(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == attribute.Key(key) {
			return kv.Value.Emit()
		}
	}
	return ""
}

// attachedSlowly is a pod that is attached to a network of two plugins, of which the second
// takes two seconds; the spans from before its attachment on are recorded.
func attachedSlowly(t *testing.T) (*Network, AttachRequest, *tracetest.InMemoryExporter, context.Context) {
	t.Helper()
	n, bin := open(t, nil)
	installPlugin(t, bin, "slow", "delay 2s")
	list := embeddedPlugins(t, n)
	writeConf(t, n, "10-slow.conflist", "1.0.0", "slownet", list[0], `{"type":"slow"}`)
	eventually(t, "the new network", func() bool { return n.Status().Name == "slownet" })
	exporter, ctx := recorded(t)
	req := sandbox(t, n)
	var err error
	if req.Status, err = n.Attach(ctx, req); err != nil {
		t.Fatal(err)
	}
	return n, req, exporter, ctx
}

func TestASlowPluginShowsInExactlyItsSpan(t *testing.T) {
	n, req, exporter, ctx := attachedSlowly(t)
	if err := n.Detach(ctx, req); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, s := range exporter.GetSpans() {
		if s.Name != "network.cni" {
			continue
		}
		took := s.EndTime.Sub(s.StartTime)
		slow := attr(s, "vitrine.cni.plugin") == "slow"
		if slow != (took >= 2*time.Second) {
			t.Errorf("%s %s took %s", attr(s, "vitrine.cni.plugin"), attr(s, "vitrine.cni.command"), took)
		}
		seen = append(seen, attr(s, "vitrine.cni.command")+" "+attr(s, "vitrine.cni.plugin")+" "+attr(s, "vitrine.cni.version"))
	}
	if want := []string{"ADD bridge 1.0.0", "ADD slow 1.0.0", "DEL slow 1.0.0", "DEL bridge 1.0.0"}; !slices.Equal(seen, want) {
		t.Errorf("plugin executions %q, want %q", seen, want)
	}
}

// Bridge's DEL finds its masquerading rules by the pod's interface, which goes first: cut
// off in between, they would stay for ever.
func TestADetachThatHasBegunOutlivesItsRequest(t *testing.T) {
	n, req, exporter, ctx := attachedSlowly(t)
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(time.Second, cancel)
	if err := n.Detach(ctx, req); err != nil || ctx.Err() == nil {
		t.Errorf("Detach: %v; its request: %v", err, ctx.Err())
	}
	var seen []string
	for _, s := range exporter.GetSpans() {
		if s.Name == "network.cni" && attr(s, "vitrine.cni.command") == "DEL" {
			seen = append(seen, attr(s, "vitrine.cni.plugin"))
		}
	}
	if want := []string{"slow", "bridge"}; !slices.Equal(seen, want) {
		t.Errorf("DEL was executed by %q, want %q", seen, want)
	}
}

func TestAFailingPluginIsQuotedAndLeavesNothing(t *testing.T) {
	n, bin := open(t, nil)
	attach(t, n, nil) // the bridge is there from now on
	installPlugin(t, bin, "broken", "fail the cable is unplugged")
	installPlugin(t, bin, "killed", "killed out of cheese")
	installPlugin(t, bin, "panicking", "panic at the disco")
	list := embeddedPlugins(t, n)
	for _, c := range []struct{ plugin, want, exit string }{
		{"broken", "the cable is unplugged; looked twice (CNI code 7)", "1"},
		{"killed", "signal: killed: out of cheese", "-1"},
		{"panicking", "panic: at the disco", "2"},
	} {
		writeConf(t, n, "10.conflist", "1.0.0", c.plugin+"-net", list[0], `{"type":"`+c.plugin+`"}`)
		eventually(t, "the new network", func() bool { return n.Status().Name == c.plugin+"-net" })
		exporter, ctx := recorded(t)
		req := sandbox(t, n)
		before := census(t, n)
		_, err := n.Attach(ctx, req)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), req.ID) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", c.plugin, err)
		}
		sameAs(t, n, before)
		for _, s := range exporter.GetSpans() {
			if attr(s, "vitrine.cni.plugin") == c.plugin && attr(s, "vitrine.cni.command") == "ADD" {
				if attr(s, "process.exit.code") != c.exit || !strings.Contains(s.Status.Description, c.want) {
					t.Errorf("%s: span has exit code %q, status %q", c.plugin, attr(s, "process.exit.code"), s.Status.Description)
				}
			}
		}
	}
}

func TestPluginsGetCapabilitiesArgumentsAndNoSecrets(t *testing.T) {
	n, bin := open(t, nil)
	log := filepath.Join(t.TempDir(), "log")
	installPlugin(t, bin, "scribe", "record "+log)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
	writeConf(t, n, "10.conflist", "1.0.0", "scribed",
		`{"type":"scribe","capabilities":{"portMappings":true,"dns":true,"bandwidth":true,"ipRanges":true,"cgroupPath":true}}`, `{"type":"scribe"}`)
	eventually(t, "the network", func() bool { return n.Status().Name == "scribed" })
	_, ctx := recorded(t)
	req := sandbox(t, n)
	req.Ports = []Port{{Protocol: "SCTP", HostPort: 1, ContainerPort: 2, HostIP: "::1"}}
	req.DNS = &DNS{Servers: []string{"9.9.9.9"}, Searches: []string{"shop.svc"}}
	req.Bandwidth = &Bandwidth{IngressRate: 8000}
	req.IPRanges = [][]IPRange{{{Subnet: "10.9.0.0/24"}}}
	req.CgroupParent = "/kubepods/pod1"
	if _, err := n.Attach(ctx, req); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var calls []struct{ Command, Args, ID, NetNS, OTel, Traceparent, Stdin string }
	for line := range strings.Lines(string(raw)) {
		var call struct{ Command, Args, ID, NetNS, OTel, Traceparent, Stdin string }
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	if len(calls) != 2 {
		t.Fatalf("%d executions, want 2", len(calls))
	}
	want := "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=" + req.ID + ";K8S_POD_UID=" + req.UID
	for _, call := range calls {
		if call.Args != want || call.NetNS != req.NetNS || call.OTel != "" || len(call.Traceparent) != 55 {
			t.Errorf("the plugin saw %+v", call)
		}
	}
	const caps = `"runtimeConfig":{"bandwidth":{"ingressRate":8000},"cgroupPath":"/kubepods/pod1","dns":{"servers":["9.9.9.9"],"searches":["shop.svc"]},` +
		`"ipRanges":[[{"subnet":"10.9.0.0/24"}]],"portMappings":[{"hostPort":1,"containerPort":2,"protocol":"sctp","hostIP":"::1"}]}`
	if !strings.Contains(calls[0].Stdin, caps) {
		t.Errorf("first plugin's stdin lacks the capabilities:\n%s", calls[0].Stdin)
	}
	if strings.Contains(calls[1].Stdin, "runtimeConfig") {
		t.Errorf("second plugin got capabilities that it did not declare:\n%s", calls[1].Stdin)
	}
}

func TestAHungPluginIsKilledAndBlocksOnlyItsOwnCall(t *testing.T) {
	n, bin := open(t, nil)
	pids := filepath.Join(t.TempDir(), "pids")
	installPlugin(t, bin, "stuck", "hang "+pids)
	writeConf(t, n, "10.conflist", "1.0.0", "stucknet", `{"type":"stuck"}`)
	eventually(t, "the network", func() bool { return n.Status().Name == "stucknet" })
	stuck := sandbox(t, n)
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() { _, err := n.Attach(ctx, stuck); result <- err }()
	eventually(t, "the plugin's start", func() bool { _, err := os.Stat(pids); return err == nil })

	if err := os.Remove(filepath.Join(n.config.ConfDir, "10.conflist")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the embedded default", func() bool { return n.Status().Name == n.config.Bridge })
	other := attach(t, n, nil)
	if err := errors.Join(n.Detach(t.Context(), other), n.Ready()); err != nil {
		t.Error(err)
	}

	reason := errors.New("kubelet gave up")
	cancel(reason)
	select {
	case err := <-result:
		if !errors.Is(err, reason) {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Attach goes on after its cancellation")
	}
	var plugin, child int
	raw, _ := os.ReadFile(pids)
	fmt.Sscan(string(raw), &plugin, &child)
	eventually(t, "the end of the plugin and its child", func() bool {
		return plugin != 0 && gone(plugin) && gone(child)
	})
}

// gone says whether a process has ended; a zombie has.
func gone(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(raw), ") Z ")
}

func TestAPluginThatExceedsItsTimeIsKilled(t *testing.T) {
	n, bin := open(t, func(c *Config) { c.PluginTimeout = 2 * time.Second })
	installPlugin(t, bin, "stuck", "hang "+filepath.Join(t.TempDir(), "pids"))
	writeConf(t, n, "10.conflist", "1.0.0", "stucknet", `{"type":"stuck"}`)
	eventually(t, "the network", func() bool { return n.Status().Name == "stucknet" })
	if _, err := n.Attach(t.Context(), sandbox(t, n)); !errors.Is(err, pod.ErrDeadline) || !strings.Contains(err.Error(), "killed after 2s") {
		t.Errorf("got %v", err)
	}
}

func TestBadRequestsAreRefusedBeforeAnyPluginRuns(t *testing.T) {
	n, _ := open(t, nil)
	good := sandbox(t, n)
	for name, change := range map[string]func(*AttachRequest){
		"protocol":       func(r *AttachRequest) { r.Ports = []Port{{Protocol: "icmp", HostPort: 1, ContainerPort: 1}} },
		"host port":      func(r *AttachRequest) { r.Ports = []Port{{HostPort: 65536, ContainerPort: 1}} },
		"negative port":  func(r *AttachRequest) { r.Ports = []Port{{HostPort: -1, ContainerPort: 1}} },
		"container port": func(r *AttachRequest) { r.Ports = []Port{{HostPort: 1, ContainerPort: 0}} },
		"host address":   func(r *AttachRequest) { r.Ports = []Port{{HostPort: 1, ContainerPort: 1, HostIP: "-j ACCEPT"}} },
		"pod name":       func(r *AttachRequest) { r.Name = "web;IP=10.0.0.1" },
		"namespace":      func(r *AttachRequest) { r.Namespace = "a=b" },
		"id":             func(r *AttachRequest) { r.ID = "../../etc" },
		"netns":          func(r *AttachRequest) { r.NetNS = "/etc/passwd" },
		"no netns":       func(r *AttachRequest) { r.NetNS = "" },
	} {
		req := good
		change(&req)
		exporter, ctx := recorded(t)
		if _, err := n.Attach(ctx, req); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
		for _, s := range exporter.GetSpans() {
			if s.Name == "network.cni" {
				t.Errorf("%s: a plugin ran", name)
			}
		}
	}
}
