package observe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/golden"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// tree draws a span and what is below it, without what differs from run to run:
// siblings in order of their names, those with the same tree once.
func tree(trace *waterfall.Trace, s waterfall.Span, indent string) string {
	var below []string
	for _, child := range trace.Spans {
		// Whether the kernel tells of a start is its own affair, and how far it has come a
		// matter of time.
		if child.ParentID == s.ID && !strings.HasPrefix(child.Name, "ebpf.") {
			below = append(below, tree(trace, child, indent+"  "))
		}
	}
	slices.Sort(below)
	mark := ""
	if s.Error {
		mark = " ! " + s.Text("error.type")
	}
	return indent + s.Name + mark + "\n" + strings.Join(slices.Compact(below), "")
}

// checkTree compares the tree of a trace's root with testdata/NAME.txt. A step that a
// monitor reports late is waited for.
func checkTree(t *testing.T, n *node, name, traceID, root string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	draw := func() string {
		trace := harness.Must(n.Trace(n.ctx, traceID))(t)
		for _, s := range trace.Roots() {
			if s.Name == root || root == "" {
				return tree(trace, s, "")
			}
		}
		return ""
	}
	if golden.Update() {
		if err := os.WriteFile(path, []byte(draw()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := string(harness.Must(os.ReadFile(path))(t))
	eventually(t, "the tree of testdata/"+name+".txt (go test ./test/observe -run Tree -update, and read the difference)", func() string {
		if have := draw(); have != want {
			return "it is\n" + have + "want\n" + want
		}
		return ""
	})
}

// Each path through the daemon has the steps that testdata draws. A step that is new
// or gone shows in the difference of that file.
func TestTreeOfEachPathIsAsDrawn(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nspare_monitors = -1\n"})
	_, err := n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: n.image}})
	n.must(err)
	pod := n.Pod("drawn")
	var sandbox, id string
	c := harness.Container(pod, "c", n.image, "/bin/payload", "wait")
	for _, path := range []struct {
		name string
		call func() error
	}{
		{"PullImage", func() error { _, err := n.cri.Pull(n.traced(), hub.Image); return err }},
		{"PullImage-again", func() error { _, err := n.cri.Pull(n.traced(), hub.Image); return err }},
		{"RunPodSandbox", func() (err error) { sandbox, err = n.cri.RunPod(n.traced(), pod); return err }},
		{"CreateContainer", func() (err error) { id, err = n.cri.Create(n.traced(), sandbox, pod, c); return err }},
		{"StartContainer", func() error { return n.cri.Start(n.traced(), id) }},
		{"ExecSync", func() error {
			// What a session without libcontainer needs is learnt after the first creation.
			eventually(t, "the profile's filter", func() string {
				if files, _ := filepath.Glob(filepath.Join(n.State(), "filters", "*")); len(files) == 0 {
					return "not learnt yet"
				}
				return ""
			})
			_, err := n.cri.Exec(n.traced(), id, 0, "/bin/true")
			return err
		}},
		{"StopContainer", func() error { return n.cri.Stop(n.traced(), id, 0) }},
		{"RemoveContainer", func() error { return n.cri.Remove(n.traced(), id) }},
		{"StopPodSandbox", func() error { return n.cri.StopPod(n.traced(), sandbox) }},
		{"RemovePodSandbox", func() error {
			_, err := n.cri.RemovePodSandbox(n.traced(), &runtime.RemovePodSandboxRequest{PodSandboxId: sandbox})
			return err
		}},
	} {
		if err := path.call(); err != nil {
			t.Fatalf("%s: %v", path.name, err)
		}
		checkTree(t, n, path.name, n.last, "")
	}
	t.Run("start of the daemon", func(t *testing.T) {
		var found struct {
			Traces []waterfall.Summary `json:"traces"`
		}
		n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/traces?limit=1000"))(t)), &found))
		for _, f := range found.Traces {
			if slices.Contains(f.Roots, "daemon.start") {
				checkTree(t, n, "daemon.start", f.ID, "daemon.start")
				return
			}
		}
		t.Errorf("no trace of the start among %d", len(found.Traces))
	})
}

// Where a spare monitor waits, a creation has no beginning of processes in it.
func TestTreeOfACreationWithASpareIsAsDrawn(t *testing.T) {
	n := start(t, harness.Options{})
	eventually(t, "a spare monitor", func() string {
		if !strings.Contains(harness.Must(n.Metrics())(t), "vitrine_monitor_spares_ready 1") {
			return "none is ready"
		}
		return ""
	})
	pod := n.HostPod("spared")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	_, err := n.cri.Create(n.traced(), sandbox, pod, harness.Container(pod, "c", n.image, "/bin/payload", "wait"))
	n.must(err)
	checkTree(t, n, "CreateContainer-spare", n.last, "")
	for _, s := range harness.Must(n.Trace(n.ctx, n.last))(t).Spans {
		if s.Name == "lifecycle.create_container" && s.Text("vitrine.create.spare") != "used" {
			t.Errorf("its span says %q of the spare", s.Text("vitrine.create.spare"))
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
}

// What failed is marked in the step that failed, with a class, up to the call.
func TestTreeOfAFailureNamesTheStepThatFailed(t *testing.T) {
	n := start(t, harness.Options{})
	if _, err := n.cri.Pull(n.traced(), hub.Image+"-absent"); err == nil {
		t.Fatal("an image that is not there was pulled")
	}
	marked(t, n, "image.pull")
	pod := n.Pod("fails")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	absent, err := n.cri.Create(n.traced(), sandbox, pod, harness.Container(pod, "c", n.image, "/bin/absent"))
	if err == nil {
		err = n.cri.Start(n.traced(), absent)
	}
	if err == nil {
		t.Fatal("a program that is not there was started")
	}
	marked(t, n, "lifecycle.start_container", "lifecycle.create_container")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
}

// marked wants an error with a class on one of the steps and on everything below it
// that failed, and one at least.
func marked(t *testing.T, n *node, steps ...string) {
	t.Helper()
	trace := harness.Must(n.Trace(n.ctx, n.last))(t)
	found := false
	for _, s := range trace.Spans {
		if s.Error && (s.Text("error.type") == "" || s.Status == "") {
			t.Errorf("%s failed with class %q and status %q", s.Name, s.Text("error.type"), s.Status)
		}
		found = found || s.Error && slices.Contains(steps, s.Name)
	}
	if !found {
		t.Errorf("none of %v is marked:\n%s", steps, tree(trace, trace.Roots()[0], ""))
	}
}
