package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// pluginEnv makes this test binary an NRI plugin: its value is NAME:SOCKET:JOURNAL.
const pluginEnv = "VITRINE_TEST_NRI_PLUGIN"

// A recorder is a plugin that writes one line per event into a journal, and does what a
// container's annotations ask of it.
type recorder struct{ journal *os.File }

// Annotations by which a test tells the plugin what to do with a container.
const (
	askAdjust = "plugin.test/adjust" // adjust it; the value is a host directory to mount
	askRefuse = "plugin.test/refuse"
	askHang   = "plugin.test/hang" // the value is the name of the plugin that shall
)

var pluginName string

// playPlugin is the plugin's main.
func playPlugin() int {
	parts := strings.SplitN(os.Getenv(pluginEnv), ":", 3)
	pluginName = parts[0]
	journal, err := os.OpenFile(parts[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := stub.New(&recorder{journal}, stub.WithPluginName(pluginName), stub.WithPluginIdx("10"), stub.WithSocketPath(parts[1]))
	if err == nil {
		err = s.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (r *recorder) write(event, what string) { fmt.Fprintf(r.journal, "%s %s\n", event, what) }

func (r *recorder) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	for _, p := range pods {
		r.write("sync-pod", p.Name)
	}
	for _, c := range containers {
		r.write("sync-"+strings.ToLower(strings.TrimPrefix(c.State.String(), "CONTAINER_")), c.Name)
	}
	r.write("synchronized", "")
	return nil, nil
}

func (r *recorder) RunPodSandbox(_ context.Context, p *api.PodSandbox) error {
	r.write("RunPodSandbox", p.Name)
	return nil
}

func (r *recorder) UpdatePodSandbox(_ context.Context, p *api.PodSandbox, _, res *api.LinuxResources) error {
	r.write("UpdatePodSandbox", fmt.Sprint(p.Name, " ", res.GetCpu().GetShares().GetValue()))
	return nil
}

func (r *recorder) PostUpdatePodSandbox(_ context.Context, p *api.PodSandbox) error {
	r.write("PostUpdatePodSandbox", p.Name)
	return nil
}

func (r *recorder) StopPodSandbox(_ context.Context, p *api.PodSandbox) error {
	r.write("StopPodSandbox", p.Name)
	return nil
}

func (r *recorder) RemovePodSandbox(_ context.Context, p *api.PodSandbox) error {
	r.write("RemovePodSandbox", p.Name)
	return nil
}

func (r *recorder) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	r.write("CreateContainer", c.Name)
	if c.Annotations[askHang] == pluginName {
		select {}
	}
	if c.Annotations[askRefuse] != "" {
		return nil, nil, errors.New("not on my node")
	}
	dir := c.Annotations[askAdjust]
	if dir == "" {
		return nil, nil, nil
	}
	adjust := &api.ContainerAdjustment{}
	adjust.AddEnv("FROM_PLUGIN", "yes")
	adjust.AddAnnotation("plugin.test/was", "here")
	adjust.AddMount(&api.Mount{Source: dir, Destination: "/plugin", Type: "bind", Options: []string{"bind", "ro"}})
	adjust.SetLinuxMemoryLimit(96 << 20)
	adjust.AddRlimit("RLIMIT_NOFILE", 333, 333)
	adjust.AddCDIDevice(&api.CDIDevice{Name: "vendor.test/plugin=one"})
	adjust.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{{Path: filepath.Join(dir, "hook")}}})
	return adjust, nil, nil
}

func (r *recorder) PostCreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	r.write("PostCreateContainer", c.Name)
	return nil
}

func (r *recorder) StartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	r.write("StartContainer", c.Name)
	return nil
}

func (r *recorder) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	r.write("PostStartContainer", c.Name)
	return nil
}

// UpdateContainer doubles the shares that kubelet asks for.
func (r *recorder) UpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container, res *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	r.write("UpdateContainer", c.Name)
	update := &api.ContainerUpdate{}
	update.SetContainerId(c.Id)
	update.SetLinuxCPUShares(2 * res.GetCpu().GetShares().GetValue())
	return []*api.ContainerUpdate{update}, nil
}

func (r *recorder) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	r.write("PostUpdateContainer", c.Name)
	return nil
}

func (r *recorder) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	r.write("StopContainer", fmt.Sprint(c.Name, " ", c.ExitCode))
	return nil, nil
}

func (r *recorder) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	r.write("RemoveContainer", c.Name)
	return nil
}

// plugin is the process and its journal.
type plugin struct {
	t       testing.TB
	journal string
	stop    func() // may be called again
}

// startPlugin runs a plugin until the end of the test.
func startPlugin(t testing.TB, n *node, name string) *plugin {
	t.Helper()
	p := &plugin{t: t, journal: filepath.Join(n.Dir, "plugin-"+name)}
	cmd := exec.Command(harness.Must(os.Executable())(t))
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%s:%s", pluginEnv, name, n.NRISocket(), p.journal))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	n.must(cmd.Start())
	p.stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("plugin %s said: %s\nits journal: %q", name, out.String(), p.lines())
		}
	})
	return p
}

func (p *plugin) lines() []string {
	raw, _ := os.ReadFile(p.journal)
	return strings.FieldsFunc(string(raw), func(r rune) bool { return r == '\n' })
}

// await returns the journal once it has the line.
func (p *plugin) await(line string) []string {
	p.t.Helper()
	deadline := time.Now().Add(harness.Scale(30 * time.Second))
	for {
		lines := p.lines()
		if slices.Contains(lines, line) {
			return lines
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no %q in the plugin's journal: %q", line, lines)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
