package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// promisedCoverage is the share of an RPC's time that its children explain.
const promisedCoverage = 0.98

func TestChildrenExplainTheTimeOfEveryStep(t *testing.T) {
	n := start(t, harness.Options{})
	const rounds = 5
	got := map[string][]float64{}
	reports := map[string]string{}
	for range rounds {
		for rpc, traceID := range oneTracedPod(n) {
			trace := harness.Must(n.Trace(n.ctx, traceID))(t)
			root := server(t, trace, rpc)
			got[rpc] = append(got[rpc], waterfall.Coverage(trace, root.ID))
			reports[rpc] = waterfall.Report(trace, root.ID)
		}
	}
	for rpc, shares := range got {
		slices.Sort(shares)
		t.Logf("%s: %.3f in the median of %d (%.3f to %.3f)", rpc, shares[rounds/2], rounds, shares[0], shares[rounds-1])
		if shares[rounds/2] < promisedCoverage {
			t.Errorf("%s: children cover %.1f %% of the time, want %.0f %%\n%s", rpc, 100*shares[rounds/2], 100*promisedCoverage, reports[rpc])
		}
	}
	n.nothingLeft()
}

// oneTracedPod pulls, runs and removes, and returns the trace of each RPC by name.
// The image is removed first, so that the pull has something to do.
func oneTracedPod(n *node) map[string]string {
	n.Helper()
	traces := map[string]string{}
	traced := func(rpc string) context.Context {
		ctx, id := harness.Traced(n.ctx)
		traces[rpc] = id
		return ctx
	}
	_, err := n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: n.image}})
	n.must(err)
	harness.Must(n.cri.Pull(traced("PullImage"), hub.Image))(n)
	pod := n.Pod("traced")
	sandbox := harness.Must(n.cri.RunPod(traced("RunPodSandbox"), pod))(n)
	id := harness.Must(n.cri.Create(traced("CreateContainer"), sandbox, pod, harness.Container(pod, "c", n.image, "/bin/payload", "wait")))(n)
	n.must(n.cri.Start(traced("StartContainer"), id))
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	return traces
}

// server returns the server span of an RPC: the root of what this node has of the
// trace.
func server(t testing.TB, trace *waterfall.Trace, rpc string) waterfall.Span {
	t.Helper()
	for _, s := range trace.Spans {
		if s.Kind == "server" && strings.Contains(s.Name, rpc) {
			return s
		}
	}
	t.Fatalf("trace %s has no server span of %s: %v", trace.ID, rpc, names(trace.Spans))
	return waterfall.Span{}
}

func names(spans []waterfall.Span) (list []string) {
	for _, s := range spans {
		list = append(list, s.Name)
	}
	return list
}

// delay is what is injected: more than any step takes by itself, on a busy machine too.
var delay = harness.Scale(time.Second)

func TestDelayShowsInExactlyTheStepThatHadIt(t *testing.T) {
	proxy := harness.Must(fixture.StartProxy(hub.Addr))(t)
	defer proxy.Close()
	bundled := filepath.Join(harness.Must(harness.Bin())(t), "cni")
	wrapped := t.TempDir()
	slow := filepath.Join(wrapped, "slow")
	script(t, filepath.Join(wrapped, "bridge"), fmt.Sprintf("[ $CNI_COMMAND != ADD ] || [ ! -e %s ] || sleep %g\nexec %s/bridge", slow, delay.Seconds(), bundled))
	hooks := t.TempDir()
	script(t, filepath.Join(hooks, "wait"), fmt.Sprintf("cat >/dev/null; sleep %g", delay.Seconds()))
	// Each stage has a program of its own by which its hook is chosen.
	stages := map[string]string{"createRuntime": "/bin/sleep", "createContainer": "/bin/tail"}
	for stage, program := range stages {
		hook := fmt.Sprintf(`{"version": "1.0.0", "hook": {"path": %q}, "when": {"commands": ["^%s$"]}, "stages": [%q]}`, filepath.Join(hooks, "wait"), program, stage)
		if err := os.WriteFile(filepath.Join(hooks, stage+".json"), []byte(hook), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n := start(t, harness.Options{
		RegistriesConf: fixture.RegistriesConf(hub.Addr, proxy.Addr),
		CNIBin:         []string{wrapped},
		Config:         fmt.Sprintf("[runtime]\nhooks_dir = %q\n", hooks),
	})

	t.Run("registry", func(t *testing.T) {
		defer proxy.Inject(fixture.Fault{Method: "GET", Path: "/manifests/", Delay: delay, Times: 1})()
		ctx, id := harness.Traced(n.ctx)
		harness.Must(n.cri.Pull(ctx, strings.Replace(hub.Image, hub.Addr, proxy.Addr, 1)))(t)
		onlyIn(t, n, id, "PullImage", func(s waterfall.Span) bool {
			return strings.HasPrefix(s.Name, "image.") && strings.Contains(s.Name, "manifest") || s.Name == "image.resolve"
		})
	})
	n.clean = harness.Must(n.Census())(t) // the image has another name now
	t.Run("CNI plugin", func(t *testing.T) {
		n.must(os.WriteFile(slow, nil, 0o600))
		defer os.Remove(slow)
		ctx, id := harness.Traced(n.ctx)
		sandbox := harness.Must(n.cri.RunPod(ctx, n.Pod("slow")))(t)
		onlyIn(t, n, id, "RunPodSandbox", func(s waterfall.Span) bool {
			return s.Name == "network.cni" && s.Text("vitrine.cni.plugin") == "bridge" && s.Text("vitrine.cni.command") == "ADD"
		})
		n.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	for stage, program := range stages {
		t.Run("OCI hook "+stage, func(t *testing.T) {
			pod := n.HostPod("slow")
			sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
			c := harness.Container(pod, "c", n.image, program, "100")
			ctx, id := harness.Traced(n.ctx)
			harness.Must(n.cri.Create(ctx, sandbox, pod, c))(t)
			onlyIn(t, n, id, "CreateContainer", func(s waterfall.Span) bool {
				if n.Options.Handler != harness.NativeHandler { // it runs its hooks itself and tells nobody when
					return s.Name == "runtime.create"
				}
				return strings.HasPrefix(s.Name, "oci.hook.")
			})
			n.must(n.cri.RemovePod(n.ctx, sandbox))
		})
	}
	n.nothingLeft()
}

func TestDelayOfTheRootFileSystemShowsInItsMount(t *testing.T) {
	n := start(t, harness.Options{Env: []string{fmt.Sprintf("VITRINE_FAULTS=image.rootfs.mount=sleep(%v)", delay)}})
	pod := n.HostPod("slow")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	ctx, id := harness.Traced(n.ctx)
	harness.Must(n.cri.Create(ctx, sandbox, pod, harness.Container(pod, "c", n.image, "/bin/payload", "wait")))(t)
	onlyIn(t, n, id, "CreateContainer", func(s waterfall.Span) bool { return strings.HasPrefix(s.Name, "image.rootfs") })
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// onlyIn checks that the spans of an RPC that lasted as long as the injected delay
// are one branch: the RPC, the steps that contain the culprit, and the culprit, which
// is the innermost. No sibling may look slow.
func onlyIn(t *testing.T, n *node, traceID, rpc string, culprit func(waterfall.Span) bool) {
	t.Helper()
	trace := harness.Must(n.Trace(n.ctx, traceID))(t)
	root := server(t, trace, rpc)
	if root.Duration() < delay {
		t.Fatalf("%s took %v: the delay did not strike", rpc, root.Duration())
	}
	at := root
	for {
		var slow []waterfall.Span
		for _, child := range trace.Children(at.ID) {
			if child.Duration() >= delay {
				slow = append(slow, child)
			}
		}
		if len(slow) == 0 {
			break
		}
		if len(slow) > 1 {
			t.Fatalf("below %s several steps look slow: %v\n%s", at.Name, names(slow), waterfall.Report(trace, root.ID))
		}
		at = slow[0]
	}
	if !culprit(at) {
		t.Errorf("the delay shows in %s %v\n%s", at.Name, at.Attributes, waterfall.Report(trace, root.ID))
	}
}

func script(t testing.TB, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
