package e2e

import (
	"strings"
	"testing"

	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestImageVolumeIsReadOnlyHasASubPathAndKeepsItsImage(t *testing.T) {
	n := start(t, harness.Options{})
	pushed := harness.Must(fixture.BuildImage(n.ctx, hub.Addr, "test/model:1", fixture.Image{Layers: []fixture.Layer{
		{Files: []fixture.File{{Name: "model/"}, {Name: "model/weights", Body: []byte("42\n")}}},
		{Files: []fixture.File{{Name: "top", Body: []byte("top\n")}, {Name: "tool", Body: []byte("#!/bin/sh\necho tool\n"), Mode: 0o755}, {Name: "out", Type: '2', Linkname: "/etc"}, {Name: "in", Type: '2', Linkname: "/model"}}},
	}}))(t)
	one := harness.Must(fixture.BuildImage(n.ctx, hub.Addr, "test/single:1", fixture.Image{Layers: []fixture.Layer{
		{Files: []fixture.File{{Name: "only", Body: []byte("only\n")}}},
	}}))(t)
	model, single := harness.Must(n.cri.Pull(n.ctx, pushed.Ref))(t), harness.Must(n.cri.Pull(n.ctx, one.Ref))(t)
	n.clean = harness.Must(n.Census())(t)
	image := func(path, id, sub string) *runtime.Mount {
		return &runtime.Mount{ContainerPath: path, Image: &runtime.ImageSpec{Image: id, UserSpecifiedImage: pushed.Ref}, ImageSubPath: sub, Readonly: true}
	}
	for name, pod := range map[string]*runtime.PodSandboxConfig{"plain": n.HostPod("volumes"), "mapped": mapped(n.HostPod("mapped-volumes"))} {
		t.Run(name, func(t *testing.T) {
			m := *n
			m.TB = t
			sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
			c := harness.Container(pod, "c", n.image, "/bin/sh", "-c",
				"cat /all/model/weights /all/top /sub/weights /linked/weights /single/only; touch /all/x || echo refused; stat -c %u /all/top; /all/tool; /locked/tool || echo locked; exec sleep 1000")
			locked := image("/locked", model, "")
			locked.MountOptions = []string{"noexec"}
			c.Mounts = []*runtime.Mount{image("/all", model, ""), image("/sub", model, "model"), image("/linked", model, "in"), image("/single", single, ""), locked}
			id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
			m.stdout(pod, c, "42\ntop\n42\n42\nonly\nrefused\n0\ntool\nlocked\n")
			for _, mount := range harness.Must(n.cri.Status(n.ctx, id))(t).Mounts {
				want := model
				if mount.ContainerPath == "/single" {
					want = single
				}
				if ref := mount.GetImage().GetImageRef(); ref != want {
					t.Errorf("%s: image_ref is %q, want %q as PullImage answered", mount.ContainerPath, ref, want)
				}
			}
			if _, err := n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: model}}); err == nil {
				t.Error("an image that is mounted was removed")
			}
			harness.Must(n.Restart(n.ctx))(t)
			if _, err := n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: model}}); err == nil {
				t.Error("after a restart of the daemon an image that is mounted was removed")
			}
			out := harness.Must(n.cri.Exec(n.ctx, id, 60, "cat", "/sub/weights"))(t)
			if string(out.Stdout) != "42\n" {
				t.Errorf("after a restart: %q, %s", out.Stdout, out.Stderr)
			}
			for what, mount := range map[string]*runtime.Mount{
				"absent sub path":         image("/x", model, "no/such"),
				"sub path that leads out": image("/x", model, "out/passwd"),
				"absent image":            image("/x", hub.Addr+"/no/such:1", ""),
			} {
				bad := harness.Container(pod, "bad", n.image, "true")
				bad.Mounts = []*runtime.Mount{mount}
				_, err := n.cri.Create(n.ctx, sandbox, pod, bad)
				if text := status.Convert(err).Message(); !strings.HasPrefix(text, "ImageVolumeMountFailed") {
					t.Errorf("%s: %q", what, text)
				}
			}
			m.must(n.cri.RemovePod(n.ctx, sandbox))
			harness.NothingLeft(t, n.Daemon, n.clean)
		})
	}
	if _, err := n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: model}}); err != nil {
		t.Errorf("the image that is no longer mounted: %v", err)
	}
}

// mapped gives a pod a user namespace of its own.
func mapped(pod *runtime.PodSandboxConfig) *runtime.PodSandboxConfig {
	ids := []*runtime.IDMapping{{HostId: 200000, ContainerId: 0, Length: 65536}}
	pod.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtime.UserNamespace{Mode: runtime.NamespaceMode_POD, Uids: ids, Gids: ids}
	return pod
}
