package cri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/criclient"
)

func TestNodeIsDescribed(t *testing.T) {
	k := newKubelet(t, func(c *cri.Config) {
		c.Conditions = func() []*runtime.RuntimeCondition {
			return []*runtime.RuntimeCondition{{Type: "StorageHealthy", Status: true}}
		}
	})
	version, err := k.Version(t.Context(), &runtime.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "version", version)
	config, err := k.RuntimeConfig(t.Context(), &runtime.RuntimeConfigRequest{})
	if err != nil || config.GetLinux().GetCgroupDriver() != runtime.CgroupDriver_SYSTEMD {
		t.Errorf("%v, %v", config, err)
	}
	k.node.networkDown = errors.New("no conflist in /etc/cni/net.d")
	status, err := k.Status(t.Context(), &runtime.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "status", status)
	k.node.networkDown = nil
	status, err = k.Status(t.Context(), &runtime.StatusRequest{})
	if err != nil || !status.GetStatus().GetConditions()[1].GetStatus() || len(status.GetInfo()) != 0 {
		t.Errorf("%v, %v", status, err)
	}
	if _, err := k.UpdateRuntimeConfig(t.Context(), &runtime.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtime.RuntimeConfig{NetworkConfig: &runtime.NetworkConfig{PodCidr: "10.0.0.0/24"}},
	}); err != nil {
		t.Error(err)
	}
}

func TestExecSync(t *testing.T) {
	k := newKubelet(t)
	_, id := k.running("web", 0)
	exec := func(timeout int64) (*runtime.ExecSyncResponse, error) {
		return k.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"a", "b"}, Timeout: timeout})
	}
	k.node.execSync = func(_ context.Context, cmd []string, timeout time.Duration) (lifecycle.ExecResult, error) {
		return lifecycle.ExecResult{Stdout: fmt.Append(nil, cmd, timeout), Stderr: []byte("e"), ExitCode: 4}, nil
	}
	if r, err := exec(3); err != nil || string(r.GetStdout()) != "[a b] 3s" || string(r.GetStderr()) != "e" || r.GetExitCode() != 4 {
		t.Errorf("%v, %v", r, err)
	}
	k.node.execSync = func(context.Context, []string, time.Duration) (lifecycle.ExecResult, error) {
		return lifecycle.ExecResult{}, fmt.Errorf("exec: %w: command timed out after 1s", pod.ErrDeadline)
	}
	_, err := exec(1)
	wantCode(t, "a command that times out", err, codes.DeadlineExceeded)
	if _, err := k.StopContainer(t.Context(), &runtime.StopContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	_, err = exec(0)
	wantCode(t, "a container that has ended", err, codes.FailedPrecondition)
}

// Kubelet receives 16 MiB and no more.
func TestLargestExecOutputReachesKubelet(t *testing.T) {
	k := newKubelet(t)
	_, id := k.running("web", 0)
	const limit = 16 << 20
	for name, c := range map[string]struct{ out, err, wantOut, wantErr int }{
		"both":   {limit, limit, 8<<20 - 512, 8<<20 - 512},
		"stdout": {limit, 10, limit - 1024 - 10, 10},
		"stderr": {10, limit, 10, limit - 1024 - 10},
		"small":  {10, 20, 10, 20},
	} {
		k.node.execSync = func(context.Context, []string, time.Duration) (lifecycle.ExecResult, error) {
			return lifecycle.ExecResult{Stdout: bytes.Repeat([]byte("o"), c.out), Stderr: bytes.Repeat([]byte("e"), c.err)}, nil
		}
		r, err := k.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"yes"}})
		if err != nil || len(r.GetStdout()) != c.wantOut || len(r.GetStderr()) != c.wantErr {
			t.Errorf("%s: %v, %d and %d bytes", name, err, len(r.GetStdout()), len(r.GetStderr()))
		}
	}
}

func TestStreamingURLsLeadToTheContainer(t *testing.T) {
	k := newKubelet(t)
	sandbox, id := k.running("web", 0)
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
		exec, err := k.Exec(t.Context(), &runtime.ExecRequest{ContainerId: id[:12], Cmd: []string{"ls", "-l"}, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code, err := criclient.Run(t.Context(), transport, exec.GetUrl(), criclient.Streams{Stdout: &out}); err != nil || code != 7 || out.String() != "ls -l in "+id {
			t.Errorf("exec over %s: code %d, %v, %q", transport, code, err, &out)
		}
		attach, err := k.Attach(t.Context(), &runtime.AttachRequest{ContainerId: id, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if _, err := criclient.Run(t.Context(), transport, attach.GetUrl(), criclient.Streams{Stdout: &out}); err != nil || out.String() != "attached to "+id {
			t.Errorf("attach over %s: %v, %q", transport, err, &out)
		}
		forward, err := k.PortForward(t.Context(), &runtime.PortForwardRequest{PodSandboxId: sandbox})
		if err != nil {
			t.Fatal(err)
		}
		forwarder, err := criclient.Forward(t.Context(), transport, forward.GetUrl())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := forwarder.Dial(80)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "port 80 of "+sandbox {
			t.Errorf("port forward over %s: %q, %v", transport, got, err)
		}
		forwarder.Close()
	}
	k.node.force(id, pod.Created)
	_, err := k.Exec(t.Context(), &runtime.ExecRequest{ContainerId: id, Cmd: []string{"ls"}, Stdout: true})
	wantCode(t, "exec before the start", err, codes.FailedPrecondition)
	k.node.force(sandbox, pod.NotReady)
	_, err = k.PortForward(t.Context(), &runtime.PortForwardRequest{PodSandboxId: sandbox})
	wantCode(t, "port forward after the stop", err, codes.FailedPrecondition)
}

func TestImages(t *testing.T) {
	k := newKubelet(t)
	credentials := &runtime.AuthConfig{Username: "u", Password: "p", Auth: "a", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r"}
	pulled, err := k.PullImage(t.Context(), &runtime.PullImageRequest{
		Image: &runtime.ImageSpec{Image: "reg/app:v1"}, Auth: credentials, SandboxConfig: sandboxConfig("web"),
	})
	if err != nil || pulled.GetImageRef() != "id-of-reg/app:v1" {
		t.Fatalf("%v, %v", pulled, err)
	}
	if got, want := *k.shelf.last.Auth, (image.Auth{Username: "u", Password: "p", Auth: "a", ServerAddress: "s", IdentityToken: "i", RegistryToken: "r"}); got != want || k.shelf.last.Namespace != "shop" {
		t.Error("the request was not passed on whole")
	}
	status, err := k.ImageStatus(t.Context(), &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{Image: "reg/app:v1"}, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "image-status", status)
	for name, filter := range map[string]*runtime.ImageFilter{
		"none": nil, "empty": {Image: &runtime.ImageSpec{}}, "tag": {Image: &runtime.ImageSpec{Image: "reg/app:v1"}},
	} {
		list, err := k.ListImages(t.Context(), &runtime.ListImagesRequest{Filter: filter})
		if err != nil || len(list.GetImages()) != 1 || !proto.Equal(list.GetImages()[0], status.GetImage()) {
			t.Errorf("list with filter %s: %v, %v", name, list, err)
		}
	}
	absent := &runtime.ImageFilter{Image: &runtime.ImageSpec{Image: "other"}}
	if list, err := k.ListImages(t.Context(), &runtime.ListImagesRequest{Filter: absent}); err != nil || len(list.GetImages()) != 0 {
		t.Errorf("list of an absent image: %v, %v", list, err)
	}
	streamed, err := drain(k.StreamImages(t.Context(), &runtime.StreamImagesRequest{}))
	if err != nil || len(streamed) != 1 || len(streamed[0].GetImages()) != 1 {
		t.Errorf("%v, %v", streamed, err)
	}
	info, err := k.ImageFsInfo(t.Context(), &runtime.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "image-fs-info", info)
	if _, err := k.RemoveImage(t.Context(), &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: "reg/app:v1"}}); err != nil {
		t.Fatal(err)
	}
	if list, _ := k.ListImages(t.Context(), &runtime.ListImagesRequest{}); len(list.GetImages()) != 0 {
		t.Error("a removed image is listed")
	}
	if streamed, err := drain(k.StreamImages(t.Context(), &runtime.StreamImagesRequest{})); err != nil || len(streamed) != 0 {
		t.Errorf("%d messages, %v", len(streamed), err)
	}
}
