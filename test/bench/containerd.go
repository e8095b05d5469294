package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// peerBridge is the bridge of the containerd that the bench starts.
const peerBridge = "vtpeer0"

// startContainerd runs the installed containerd as an ordinary admin would configure
// it, in a root of its own, with the CNI plugins and the network that vitrine gets. The test
// image serves as its sandbox image: nothing is pulled from elsewhere. Debian's 1.6
// unpacks the layers of an image one after another; versions that know
// max_concurrent_unpacks (2.x; their default is 1) are given one for each processor, which
// is the harder measure.
func startContainerd(ctx context.Context, hub *harness.Hub) (_ *target, err error) {
	bin, err := harness.Bin()
	if err != nil {
		return nil, err
	}
	watched, err := newPlugins(filepath.Join(bin, "cni"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, watched.close())
		}
	}()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"net.d/10-bridge.conflist": harness.BridgeList("peer", peerBridge, dir+"/ipam", "10.63.0.0/24"),
		"config.toml": fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = %[2]q
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = %[3]q
  conf_dir = "%[1]s/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "%[1]s/state/runc"
[plugins."io.containerd.transfer.v1.local"]
  max_concurrent_unpacks = %[4]d
`, dir, hub.Image, watched.dir, goruntime.NumCPU()),
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	state := filepath.Join(dir, "state")
	if err := errors.Join(os.MkdirAll(state, 0o755), onTmpfs(state)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command("containerd", "--config", dir+"/config.toml", "--log-level", "warn")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start containerd: %w", err), unix.Unmount(state, unix.MNT_DETACH), os.RemoveAll(dir))
	}
	stop := func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait() // its status says only which signal ended it
		if link, err := netlink.LinkByName(peerBridge); err == nil {
			netlink.LinkDel(link)
		}
		return errors.Join(unix.Unmount(state, unix.MNT_DETACH), os.RemoveAll(dir))
	}
	t, err := dialPeer(ctx, dir+"/containerd.sock")
	if err != nil {
		return nil, errors.Join(err, stop(), fmt.Errorf("containerd said: %.2000s", log.String()))
	}
	disconnect := t.close
	t.plugins = watched
	t.close = func() error { return errors.Join(disconnect(), stop(), watched.close()) }
	return t, nil
}

// dialPeer waits until a runtime that was just started answers and has its network.
func dialPeer(ctx context.Context, socket string) (*target, error) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		t, err := openPeer(ctx, socket)
		if err == nil {
			if _, err = t.cri.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{}); err == nil {
				return t, nil
			}
			err = errors.Join(err, t.close())
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
