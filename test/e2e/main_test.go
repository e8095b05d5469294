// Package e2e drives the real daemon over its CRI socket as kubelet does, on real
// images, namespaces, networks and cgroups, and looks at the host afterwards.
package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// hub is the registry that all tests of this binary pull from.
var hub *harness.Hub

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == withoutBPF {
		executeWithoutBPF(os.Args[2:])
	}
	if os.Getenv(pluginEnv) != "" {
		os.Exit(playPlugin())
	}
	os.Exit(harness.RunWithHub(&hub, m.Run))
}

// A node is a daemon with the test image pulled, and a context for the test.
type node struct {
	testing.TB
	*harness.Daemon
	cri *harness.CRI
	ctx context.Context
	// image is what PullImage returned: what kubelet passes to CreateContainer.
	image string
	// clean is the census before the first pod and after the pull.
	clean *harness.Census
}

func start(t testing.TB, o harness.Options) *node {
	t.Helper()
	if o.RegistriesConf == "" {
		o.RegistriesConf = fixture.RegistriesConf(hub.Addr)
	}
	d := harness.Run(t, o)
	n := &node{TB: t, Daemon: d, cri: d.Client(t), ctx: harness.Context(t, 2*time.Minute)}
	n.image = harness.Must(n.cri.Pull(n.ctx, hub.Image))(t)
	n.clean = harness.Must(d.Census())(t)
	return n
}

// run starts a container in the pod and returns its id and request.
func (n *node) run(sandbox string, pod *runtime.PodSandboxConfig, name string, command ...string) (string, *runtime.ContainerConfig) {
	n.Helper()
	c := harness.Container(pod, name, n.image, command...)
	return harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(n), c
}

// stdout waits until the container's standard output is what is wanted.
func (n *node) stdout(pod *runtime.PodSandboxConfig, c *runtime.ContainerConfig, want string) {
	n.Helper()
	deadline := time.Now().Add(harness.Scale(5 * time.Second))
	for {
		log, err := harness.ReadLog(harness.LogPath(pod, c))
		if err == nil && string(log.Stdout) == want {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("log of %s: got %q, %v, want %q", c.Metadata.Name, log.Stdout, err, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// nothingLeft compares with the census before the first pod.
func (n *node) nothingLeft() {
	n.Helper()
	harness.NothingLeft(n, n.Daemon, n.clean)
}
