package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func TestMain(m *testing.M) {
	if Reexec() {
		return
	}
	os.Exit(m.Run())
}

// world is one store, one registry and one faulty proxy before it.
type world struct {
	*Store
	t     testing.TB
	reg   *fixture.Registry
	proxy *fixture.Proxy
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.reg, err = fixture.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.reg.Close() })
	if w.proxy, err = fixture.StartProxy(w.reg.Addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.proxy.Close() })
	w.Store = openStore(t, w.config(change...))
	return w
}

func (w *world) config(change ...func(*Config)) Config {
	w.t.Helper()
	dir := w.t.TempDir()
	conf := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(conf, []byte(fixture.RegistriesConf(w.reg.Addr, w.proxy.Addr)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	c := Config{Root: filepath.Join(dir, "data"), RunRoot: filepath.Join(dir, "run"), RegistriesConf: conf}
	for _, f := range change {
		f(&c)
	}
	return c
}

func openStore(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ids, _ := s.Rootfses(context.Background())
		for _, id := range ids {
			if err := s.RemoveRootfs(context.Background(), id); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(c.Root+"/")) {
			t.Errorf("mounts are left below %s", c.Root)
		}
	})
	return s
}

// push builds and pushes an image; the reference goes through the proxy.
func (w *world) push(name string, img fixture.Image) fixture.Pushed {
	w.t.Helper()
	p, err := fixture.BuildImage(w.t.Context(), w.reg.Addr, name, img)
	if err != nil {
		w.t.Fatal(err)
	}
	p.Ref = w.proxy.Addr + "/" + name
	return p
}

func (w *world) pull(ref string) Image {
	w.t.Helper()
	img, err := w.Pull(w.t.Context(), PullRequest{Ref: ref})
	if err != nil {
		w.t.Fatal(err)
	}
	return img
}

// small is an image of two layers that no other test has.
func small(mark string) fixture.Image {
	return fixture.Image{
		Layers: []fixture.Layer{
			{Files: []fixture.File{{Name: "etc/"}, {Name: "etc/mark", Body: []byte(mark), Mode: 0o640, UID: 7, GID: 8}}},
			{Files: []fixture.File{{Name: "data/"}, {Name: "data/bulk", Body: bytes.Repeat([]byte(mark), 5000)}}},
		},
		Config: v1.ImageConfig{User: "7:8", Cmd: []string{"/bin/" + mark}},
	}
}

// Kubelet's garbage collection and a person may want the same image gone.
func TestImageIsRemovedBySeveralAtOnce(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("shop/unwanted:1", small("unwanted"))
	for round := range 5 {
		img := w.pull(pushed.Ref)
		errs := make(chan error)
		for range 8 {
			go func() { errs <- w.Remove(t.Context(), img.ID) }()
		}
		for range 8 {
			if err := <-errs; err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if all, err := w.List(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("round %d: %d images are left, %v", round, len(all), err)
		}
	}
}

func TestPulledImageIsListedFoundAndRemoved(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("shop/web:1", small("one"))
	img := w.pull(pushed.Ref)
	if img.ID != pushed.ID || img.User != "7:8" || img.Config.Config.Cmd[0] != "/bin/one" || img.Size < 15000 {
		t.Errorf("pulled %+v", img)
	}
	if len(img.RepoTags) != 1 || img.RepoTags[0] != pushed.Ref || len(img.RepoDigests) != 1 || img.RepoDigests[0] != pushed.ByDigest() {
		t.Errorf("names are %v and %v", img.RepoTags, img.RepoDigests)
	}
	for _, ref := range []string{pushed.Ref, pushed.ByDigest(), pushed.ID, "sha256:" + pushed.ID, pushed.ID[:12], pushed.Ref + "@" + pushed.Digest.String()} {
		if got, err := w.Status(t.Context(), ref); err != nil || got.ID != img.ID {
			t.Errorf("Status(%s) = %.12s, %v", ref, got.ID, err)
		}
	}
	if all, err := w.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("List = %d images, %v", len(all), err)
	}
	if _, err := w.Status(t.Context(), "shop/other:1"); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("Status of an unknown image: %v", err)
	}
	for range 2 {
		if err := w.Remove(t.Context(), pushed.Ref); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := w.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after removal: %d images, %v", len(all), err)
	}
	if u, _ := w.FsInfo(t.Context()); u.Images.Bytes != 0 {
		t.Errorf("after removal %d bytes are in use", u.Images.Bytes)
	}
}

func TestRootfsShowsTheImageAndKeepsWrites(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("shop/web:1", small("root"))
	img := w.pull(pushed.Ref)
	root, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "c1", ImageID: img.ID})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root.Path, "etc/mark")); err != nil || string(got) != "root" {
		t.Errorf("etc/mark = %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(root.Path, "etc/mark"), []byte("written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "c1", ImageID: img.ID}); !errors.Is(err, pod.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	if err := w.Remove(t.Context(), pushed.Ref); !errors.Is(err, pod.ErrState) {
		t.Errorf("removal of an image in use: %v", err)
	}
	if bytes, inodes, err := w.RootfsUsage(t.Context(), "c1"); err != nil || bytes == 0 || inodes != 3 {
		t.Errorf("usage = %d bytes, %d inodes, %v", bytes, inodes, err)
	}
	if err := w.UnmountRootfs(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	path, err := w.MountRootfs(t.Context(), "c1")
	if err != nil || path != root.Path {
		t.Fatalf("mounted again at %q, %v", path, err)
	}
	if got, _ := os.ReadFile(filepath.Join(path, "etc/mark")); string(got) != "written" {
		t.Errorf("after a second mount etc/mark = %q", got)
	}
	if ids, err := w.Rootfses(t.Context()); err != nil || strings.Join(ids, " ") != "c1" {
		t.Errorf("Rootfses = %v, %v", ids, err)
	}
	for range 2 {
		if err := w.RemoveRootfs(t.Context(), "c1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Remove(t.Context(), pushed.Ref); err != nil {
		t.Errorf("removal after use: %v", err)
	}
}
