// Package incidents injects faults into the real daemon, one pod each, and asks it
// why. Each row of the corpus names the cause that must come first and words that the
// evidence must hold; what the daemon said goes into docs/incidents.md.
package incidents

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/why"
	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/golden"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// hub is the registry that all tests of this binary pull from.
var hub *harness.Hub

func TestMain(m *testing.M) {
	os.Exit(harness.RunWithHub(&hub, m.Run))
}

// delay is what is injected where something is slow: more than any step takes by
// itself on a machine that is busy.
var delay = harness.Scale(3 * time.Second)

// incident is one row.
type incident struct {
	name string
	// cause must be the first; evidence must stand in its sentence or its facts.
	cause    string
	evidence []string
	// inject makes it happen to the pod "NAME". It returns when the daemon can know.
	inject func(w *world)
	// container is asked about; empty is the pod.
	container string
	// passing: the fault is visible while it lasts, and not of a pod that is gone.
	passing bool
}

// group is a daemon with the incidents that it is set up for.
type group struct {
	name    string
	options func(t *testing.T, dir string) harness.Options
	before  func(n *node)
	// host: its pods are on the host's network, of which nothing is asked.
	host      bool
	incidents []incident
}

// node is a daemon under test.
type node struct {
	testing.TB
	*harness.Daemon
	cri   *harness.CRI
	ctx   context.Context
	dir   string // of the group's files
	proxy *fixture.Proxy
	image string
}

// world is what one incident has.
type world struct {
	*node
	pod     *runtime.PodSandboxConfig
	sandbox string
	undo    []func()
}

// row is one line of the page.
type row struct{ incident, cause, sentence, next string }

// corpus is every group.
var corpus = []group{registry, hostile, programs, configs, figures, limited, smallNet, quietNet, damaged, slowDisk, fullDisk, fullLayer, missingPlugin, odd, lives, registries, proxied, requests, limits, death, restarts}

func TestEveryIncidentIsNamedWithItsEvidence(t *testing.T) {
	var rows []row
	for _, g := range corpus {
		t.Run(g.name, func(t *testing.T) { rows = append(rows, play(t, g)...) })
	}
	if t.Failed() || flag.Lookup("test.run").Value.String() != "" && strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return
	}
	if len(rows) < 30 {
		t.Errorf("%d incidents, want 30 at least", len(rows))
	}
	page(t, rows)
}

func play(t *testing.T, g group) (rows []row) {
	dir := t.TempDir()
	proxy := harness.Must(fixture.StartProxy(hub.Addr))(t)
	t.Cleanup(func() { proxy.Close() })
	o := harness.Options{}
	if g.options != nil {
		o = g.options(t, dir)
	}
	o.RegistriesConf = fixture.RegistriesConf(hub.Addr, proxy.Addr, "127.0.0.1:1")
	d := harness.Run(t, o)
	n := &node{TB: t, Daemon: d, cri: d.Client(t), ctx: harness.Context(t, 8*time.Minute), dir: dir, proxy: proxy}
	if g.before != nil {
		g.before(n)
	} else {
		n.image = harness.Must(n.cri.Pull(n.ctx, hub.Image))(t)
	}
	for i, in := range g.incidents {
		t.Run(in.name, func(t *testing.T) {
			m := *n
			m.TB = t
			name := fmt.Sprintf("incident-%d", i)
			w := &world{node: &m, pod: m.Pod(name)}
			if g.host {
				w.pod = m.HostPod(name)
			}
			subject := "test/" + name
			if in.container != "" {
				subject += "/" + in.container
			}
			ended := false
			end := func() {
				if ended {
					return
				}
				ended = true
				for _, undo := range slices.Backward(w.undo) {
					undo()
				}
				w.removePods()
			}
			defer end()
			in.inject(w)
			v := w.expect(subject, in)
			rows = append(rows, row{in.name, v.Cause.Name, v.Cause.Sentence, v.Cause.Next})
			end()
			if !in.passing { // what is gone is explained as well
				w.expect(subject, in)
			}
		})
	}
	return rows
}

// expect asks until the verdict is what it must be, as monitors report late, and
// fails with the last one.
func (w *world) expect(subject string, in incident) why.Verdict {
	w.Helper()
	var v why.Verdict
	var last string
	deadline := time.Now().Add(harness.Scale(20 * time.Second))
	for {
		body, err := w.Get("/v1/why?" + url.Values{"subject": {subject}}.Encode())
		if err != nil {
			last = err.Error()
		} else {
			last = body
			v = why.Verdict{}
			if err := json.Unmarshal([]byte(body), &v); err != nil {
				w.Fatal(err)
			}
			if v.Cause.Name == in.cause && holds(v.Cause, in.evidence) {
				return v
			}
		}
		if time.Now().After(deadline) {
			var pretty bytes.Buffer
			if json.Indent(&pretty, []byte(last), "", "  ") == nil {
				last = pretty.String()
			}
			w.Fatalf("want %s with %q, got:\n%s", in.cause, in.evidence, last)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// holds: every word stands in the sentence or in the facts.
func holds(c why.Cause, words []string) bool {
	text := c.Sentence
	for _, f := range c.Facts {
		text += "\n" + f.Text
	}
	return (len(c.Facts) > 0 || c.Name == why.None) && c.Next != "" && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// removePods takes everything away; a failed incident must not disturb the next.
func (w *world) removePods() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), harness.Scale(time.Minute))
	defer cancel()
	if err := w.cri.RemoveAll(ctx); err != nil {
		w.Errorf("remove the pods: %v", err)
	}
}

// run makes the sandbox.
func (w *world) run() {
	w.Helper()
	w.sandbox = harness.Must(w.cri.RunPod(w.ctx, w.pod))(w)
}

// container runs one in a fresh sandbox, or in the one there is.
func (w *world) container(change func(*runtime.ContainerConfig), command ...string) (id string, c *runtime.ContainerConfig) {
	w.Helper()
	if w.sandbox == "" {
		w.run()
	}
	c = harness.Container(w.pod, "c", w.image, command...)
	if change != nil {
		change(c)
	}
	return harness.Must(w.cri.Run(w.ctx, w.sandbox, w.pod, c))(w), c
}

// refused wants a container that cannot be created or started.
func (w *world) refused(change func(*runtime.ContainerConfig), command ...string) {
	w.Helper()
	if w.sandbox == "" {
		w.run()
	}
	c := harness.Container(w.pod, "c", w.image, command...)
	if change != nil {
		change(c)
	}
	if id, err := w.cri.Run(w.ctx, w.sandbox, w.pod, c); err == nil {
		w.Fatalf("%s was created and started", id)
	}
}

// ends runs a container to its end.
func (w *world) ends(change func(*runtime.ContainerConfig), command ...string) {
	w.Helper()
	id, _ := w.container(change, command...)
	harness.Must(w.cri.WaitExit(w.ctx, id))(w)
}

// pull pulls for the pod, as kubelet does.
func (w *world) pull(image string) error {
	_, err := w.cri.PullImage(w.ctx, &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: image}, SandboxConfig: w.pod})
	return err
}

// fails wants a pull that does not succeed.
func (w *world) fails(image string) {
	w.Helper()
	if w.pull(image) == nil {
		w.Fatalf("%s was pulled", image)
	}
}

// faulty is a fresh image behind the proxy, with a fault.
func (w *world) faulty(f fixture.Fault) (image string) {
	w.Helper()
	box := fixture.Image{Layers: []fixture.Layer{{Compression: fixture.None, Files: []fixture.File{
		{Name: "blob", Body: bytes.Repeat([]byte(w.pod.Metadata.Uid), 40000)}}}}}
	name := "test/" + w.pod.Metadata.Uid + ":1"
	harness.Must(fixture.BuildImage(w.ctx, hub.Addr, name, box))(w)
	w.undo = append(w.undo, w.proxy.Inject(f))
	return w.proxy.Addr + "/" + name
}

// init is the pid of a container's first process, and its monitor's.
func (w *world) init(id string) (pid, monitor int) {
	w.Helper()
	r := harness.Must(w.cri.ContainerStatus(w.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(w)
	var info struct{ PID int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil || info.PID == 0 {
		w.Fatalf("no pid of %s: %v", id, err)
	}
	raw := harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", info.PID)))(w)
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if _, err := fmt.Sscan(fields[1], &monitor); err != nil {
		w.Fatal(err)
	}
	return info.PID, monitor
}

func script(t testing.TB, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// varying is what differs from run to run.
var varying = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b(pod)?vt[0-9a-f]{6}-\d+-\d+`), "NAME"},
	{regexp.MustCompile(`(/[\w.-]+)*/vt[0-9a-f]{6}\b`), "DIR"},
	{regexp.MustCompile(`\bvt[0-9a-f]{6}[-\w]*`), "NAME"},
	{regexp.MustCompile(`/tmp/[\w./-]+/`), "DIR/"},
	{regexp.MustCompile(`127\.0\.0\.1:\d{2,}`), "REGISTRY"},
	{regexp.MustCompile(`0x[0-9a-f]+`), "ADDRESS"},
	{regexp.MustCompile(`\b[0-9a-f]{12,64}\b`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]+Z`), "DATE"},
	{regexp.MustCompile(`(lookup [^ :]+)(?: on \S+)?: [^)]*`), "$1: no such host"},
	{regexp.MustCompile(`\blib[\w-]+\.so[.\d]*`), "LIBRARY"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(e\+\d+)?( ?[KMG]i(B\b)?| B\b)`), "SIZE"},
	{regexp.MustCompile(`\b\d+h\d+m\d+s (behind|ahead)\b`), "TIME $1"},
	{regexp.MustCompile(`uninterruptible sleep in \w+`), "uninterruptible sleep in FUNCTION"}, // its name is the kernel's own
	{regexp.MustCompile(`architecture "\w+", variant "\w*"`), "architecture \"THIS\""},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s|m\d+s)\b`), "TIME"},
	{regexp.MustCompile(`less than a second after this`), "TIME after this"},
	{regexp.MustCompile(`\b\d+ %`), "N %"},
	{regexp.MustCompile(`pid \d+`), "pid N"},
	{regexp.MustCompile(`\b\d+ of \d+\b`), "N of N"},
	{regexp.MustCompile(`\b\d+ (of its )?(processes|children)`), "N ${1}${2}"},
	{regexp.MustCompile(`fork \d+ times`), "fork N times"},
	{regexp.MustCompile(`in use were [^;]*`), "in use were PARTS"}, // small ones are told on some kernels only
	{regexp.MustCompile(`a CPU that others were using`), "a CPU"},  // which of the two is told depends on the kernel
	{regexp.MustCompile(`10\.\d+\.\d+\.\d+`), "ADDRESS"},
	{regexp.MustCompile(`:\d{4,5}->`), ":PORT->"},
}

func page(t *testing.T, rows []row) {
	var b strings.Builder
	b.WriteString("# Incidents\n\nWhat `vitrine why` says of faults that are injected into the real daemon; written by\n`go test ./test/incidents -update`. Figures and names of a run stand in capitals.\n\n| incident | cause | what it says | next step |\n|---|---|---|---|\n")
	root := harness.Must(harness.Root())(t)
	for _, r := range rows {
		sentence := strings.ReplaceAll(r.sentence, filepath.Join(root, "bin"), "DIR")
		for _, v := range varying {
			sentence = v.pattern.ReplaceAllString(sentence, v.with)
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", r.incident, r.cause, strings.ReplaceAll(sentence, "|", "\\|"), strings.ReplaceAll(r.next, "|", "\\|"))
	}
	path := filepath.Join(root, "docs", "incidents.md")
	if golden.Update() {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(string(harness.Must(os.ReadFile(path))(t)), "\n")
	got := strings.Split(b.String(), "\n")
	if len(got) != len(want) {
		t.Errorf("docs/incidents.md has %d lines, the test found %d (write anew with -update)", len(want), len(got))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("docs/incidents.md, line %d (write anew with -update):\n got %s\nwant %s", i+1, got[i], want[i])
		}
	}
}
