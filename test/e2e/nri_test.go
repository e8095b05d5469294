package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// withPlugins starts a daemon that serves plugins, and none of the host's own. Settings
// are lines of [nri], rest is more of the file.
func withPlugins(t *testing.T, settings, rest string) *node {
	t.Helper()
	return start(t, harness.Options{NRI: true, Config: fmt.Sprintf("[nri]\nplugin_dir = %q\n%s\n%s", t.TempDir(), settings, rest)})
}

func TestPluginSeesEveryStepAndAdjustsContainers(t *testing.T) {
	cdi := t.TempDir()
	if err := os.WriteFile(filepath.Join(cdi, "v.json"), []byte(`{"cdiVersion": "0.6.0", "kind": "vendor.test/plugin",
		"devices": [{"name": "one", "containerEdits": {"env": ["FROM_CDI=yes"]}}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	n := withPlugins(t, "request_timeout_ms = 30000", fmt.Sprintf("[runtime]\ncdi_spec_dirs = [%q]\n", cdi))
	p := startPlugin(t, n, "watch")
	p.await("synchronized ")

	dir := t.TempDir()
	script(t, filepath.Join(dir, "hook"), fmt.Sprintf("cat >/dev/null; echo ran >%s/ran", dir))
	pod := n.HostPod("seen")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "echo $FROM_PLUGIN $FROM_CDI; ulimit -n; cat /plugin/ran; exec payload wait")
	c.Annotations = map[string]string{askAdjust: dir}
	ctx, trace := harness.Traced(n.ctx)
	id := harness.Must(n.cri.Create(ctx, sandbox, pod, c))(t)
	n.must(n.cri.Start(n.ctx, id))
	n.stdout(pod, c, "yes yes\n333\nran\nwaiting\n")
	status := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id}))(t).Status
	if got := status.Resources.GetLinux().GetMemoryLimitInBytes(); got != 96<<20 {
		t.Errorf("memory limit in the status is %d, want the plugin's", got)
	}
	var called int
	for _, s := range harness.Must(n.Trace(n.ctx, trace))(t).Spans {
		if s.Name == "nri.plugin" && s.Text("vitrine.nri.plugin") == "10-watch" && s.Text("vitrine.nri.event") == "CreateContainer" {
			called++
		}
	}
	if called != 1 {
		t.Errorf("%d spans of the plugin's call, want 1", called)
	}

	_, err := n.cri.UpdateContainerResources(n.ctx, &runtime.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtime.LinuxContainerResources{CpuShares: 100}})
	n.must(err)
	status = harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id}))(t).Status
	if got := status.Resources.GetLinux().GetCpuShares(); got != 200 {
		t.Errorf("shares are %d, want the plugin's 200", got)
	}
	_, err = n.cri.UpdatePodSandboxResources(n.ctx, &runtime.UpdatePodSandboxResourcesRequest{PodSandboxId: sandbox, Resources: &runtime.LinuxContainerResources{CpuShares: 77}})
	n.must(err)

	refused := harness.Container(pod, "refused", n.image, "/bin/true")
	refused.Annotations = map[string]string{askRefuse: "yes"}
	if _, err := n.cri.Create(n.ctx, sandbox, pod, refused); err == nil || !strings.Contains(err.Error(), "not on my node") {
		t.Errorf("a container that the plugin refuses: %v", err)
	}
	n.must(n.cri.Stop(n.ctx, id, 60))
	n.must(n.cri.RemovePod(n.ctx, sandbox))

	got := p.await("RemovePodSandbox seen")
	want := []string{
		"synchronized ", "RunPodSandbox seen", "CreateContainer c", "PostCreateContainer c", "StartContainer c", "PostStartContainer c",
		"UpdateContainer c", "PostUpdateContainer c", "UpdatePodSandbox seen 77", "PostUpdatePodSandbox seen",
		"CreateContainer refused", "RemoveContainer refused",
		"StopContainer c 0", "StopPodSandbox seen", "RemoveContainer c", "RemovePodSandbox seen",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the plugin saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p.stop()
	n.nothingLeft()
}

// Plugins join while containers are being made. Whatever the moment, each plugin has
// every container on its list or in its events, learns that it runs, and its end once.
func TestPluginThatJoinsLateLosesNothing(t *testing.T) {
	const makers, each = 4, 4
	n := withPlugins(t, "request_timeout_ms = 30000", "")
	pod := n.HostPod("busy")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	var all sync.WaitGroup
	var mu sync.Mutex // guards made and failed
	var made []string
	var failed error
	reached := make(chan int, makers*each)
	for m := range makers {
		all.Go(func() {
			for i := range each {
				name := fmt.Sprintf("c%d-%d", m, i)
				_, err := n.cri.Run(n.ctx, sandbox, pod, harness.Container(pod, name, n.image, "/bin/sleep", "1000"))
				mu.Lock()
				made = append(made, name)
				if err != nil {
					failed = err
				}
				reached <- len(made)
				mu.Unlock()
			}
		})
	}
	var plugins []*plugin
	for count := range reached {
		if count%4 == 1 { // while others are on their way
			plugins = append(plugins, startPlugin(t, n, fmt.Sprint("late", count)))
		}
		if count == makers*each {
			break
		}
	}
	all.Wait()
	n.must(failed)
	for _, p := range plugins {
		p.await("synchronized ")
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	for _, p := range plugins {
		lines := p.await("RemovePodSandbox busy")
		p.stop()
		count := func(line string) (found int) {
			for _, l := range lines {
				if l == line {
					found++
				}
			}
			return found
		}
		if count("sync-pod busy") != 1 {
			t.Errorf("%s: the pod was listed %d times", p.journal, count("sync-pod busy"))
		}
		for _, c := range made {
			listed := count("sync-created "+c) + count("sync-running "+c)
			if listed+count("CreateContainer "+c) != 1 {
				t.Errorf("%s: %s was listed %d times and told of %d times", p.journal, c, listed, count("CreateContainer "+c))
			}
			if count("sync-running "+c)+count("PostStartContainer "+c) < 1 {
				t.Errorf("%s: nothing said that %s runs", p.journal, c)
			}
			if count("StopContainer "+c+" 137") != 1 || count("RemoveContainer "+c) != 1 {
				t.Errorf("%s: %s ended %d times and was removed %d times", p.journal, c, count("StopContainer "+c+" 137"), count("RemoveContainer "+c))
			}
		}
	}
	n.nothingLeft()
}

// The daemon died; its successor knows of the containers from their records, and so do
// the plugins that connect to it.
func TestPluginLearnsWhatRanBeforeTheDaemon(t *testing.T) {
	n := withPlugins(t, "request_timeout_ms = 30000", "")
	pod := n.HostPod("old")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, c := n.run(sandbox, pod, "c", "/bin/payload", "wait")
	n.stdout(pod, c, "waiting\n")
	harness.Must(n.Restart(n.ctx))(t)
	p := startPlugin(t, n, "after")
	if lines := p.await("synchronized "); !slices.Equal(lines, []string{"sync-pod old", "sync-running c", "synchronized "}) {
		t.Errorf("the plugin was given %q", lines)
	}
	n.must(n.cri.Stop(n.ctx, id, 60))
	p.await("StopContainer c 0")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	p.await("RemovePodSandbox old")
	p.stop()
	n.nothingLeft()
}

func TestPluginThatHangsIsCutOffAndNamed(t *testing.T) {
	n := withPlugins(t, "request_timeout_ms = 5000", "")
	hanging, healthy := startPlugin(t, n, "hangs"), startPlugin(t, n, "works")
	hanging.await("synchronized ")
	healthy.await("synchronized ")
	pod := n.HostPod("patient")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/payload", "wait")
	c.Annotations = map[string]string{askHang: "hangs"}
	ctx, trace := harness.Traced(n.ctx)
	id := harness.Must(n.cri.Create(ctx, sandbox, pod, c))(t)
	n.must(n.cri.Start(n.ctx, id))
	healthy.await("PostStartContainer c")
	if slices.Contains(hanging.lines(), "StartContainer c") {
		t.Error("the plugin that hangs was asked again")
	}
	found := false
	for _, s := range harness.Must(n.Trace(n.ctx, trace))(t).Spans {
		found = found || s.Name == "nri.plugin" && s.Text("vitrine.nri.plugin") == "10-hangs" && s.Duration() >= 4*time.Second
	}
	if !found {
		t.Error("no span shows the time that the plugin took")
	}
	log := harness.Must(os.ReadFile(n.DaemonLog()))(t)
	if !strings.Contains(string(log), `msg="a plugin does not answer" plugin=10-hangs event=CreateContainer`) {
		t.Error("the daemon's log does not name the plugin")
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	hanging.stop()
	healthy.stop()
	n.nothingLeft()
}
