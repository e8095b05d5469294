package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func TestRootfsOfAUserNamespaceHasItsOwners(t *testing.T) {
	w := newWorld(t)
	img := w.pull(w.push("userns/image:1", small("userns")).Ref)
	maps := []IDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	root, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "mapped", ImageID: img.ID, UIDMaps: maps, GIDMaps: maps})
	if errors.Is(err, pod.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, owner := range map[string][2]uint32{"": {100000, 100000}, "etc/mark": {100007, 100008}, "data/bulk": {100000, 100000}} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(root.Path, name), &st); err != nil || st.Uid != owner[0] || st.Gid != owner[1] {
			t.Errorf("%q belongs to %d:%d, %v", name, st.Uid, st.Gid, err)
		}
	}
	plain, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "plain", ImageID: img.ID})
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(plain.Path+"/etc/mark", &st); err != nil || st.Uid != 7 {
		t.Errorf("beside it, etc/mark belongs to %d, %v", st.Uid, err)
	}
	if left, _ := os.ReadDir(filepath.Join(w.Store.config.RunRoot, "idmap")); len(left) > 0 {
		t.Error("id-mapped mounts are left")
	}
	short := []IDMap{{ContainerID: 5, HostID: 100000, Size: 10}}
	if _, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "short", ImageID: img.ID, UIDMaps: short, GIDMaps: short}); !errors.Is(err, pod.ErrInvalid) {
		t.Errorf("maps without the owner of the root directory: %v", err)
	}
}

func TestRootfsOfManyLayersAndOfNone(t *testing.T) {
	w := newWorld(t)
	var many fixture.Image
	for i := range maxLayers {
		many.Layers = append(many.Layers, fixture.Layer{Files: []fixture.File{{Name: fmt.Sprintf("file%03d", i)}, {Name: "last", Body: []byte(fmt.Sprint(i))}}})
	}
	s := w.Store
	for name, img := range map[string]fixture.Image{"many": many, "two": small("awkward"), "none": {}} {
		pushed := w.push("layers/"+name+":1", img)
		got, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
		if err != nil {
			t.Fatal(err)
		}
		root, err := s.CreateRootfs(t.Context(), RootfsRequest{ID: name, ImageID: got.ID})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(root.Path)
		if want := map[string]int{"many": maxLayers + 1, "two": 2, "none": 0}[name]; err != nil || len(entries) != want {
			t.Errorf("%s shows %d entries, %v", name, len(entries), err)
		}
		if name == "many" {
			if body, _ := os.ReadFile(root.Path + "/last"); string(body) != fmt.Sprint(maxLayers-1) {
				t.Errorf("the topmost layer does not win: %s", body)
			}
		}
	}
}

func TestRootfsRequestsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	for id, kind := range map[string]error{"": pod.ErrInvalid, "..": pod.ErrInvalid, "a/b": pod.ErrInvalid, ".gone-x": pod.ErrInvalid, "empty": pod.ErrInvalid, strings.Repeat("a", 129): pod.ErrInvalid, "good": pod.ErrNotFound} {
		if _, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: id, ImageID: strings.Repeat("0", 64)}); !errors.Is(err, kind) {
			t.Errorf("create %q: %v", id, err)
		}
	}
	if _, err := w.MountRootfs(t.Context(), "absent"); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("mount: %v", err)
	}
	if _, _, err := w.RootfsUsage(t.Context(), "absent"); !errors.Is(err, pod.ErrNotFound) {
		t.Errorf("usage: %v", err)
	}
	if err := errors.Join(w.UnmountRootfs(t.Context(), "absent"), w.RemoveRootfs(t.Context(), "absent")); err != nil {
		t.Error(err)
	}
	if left, err := w.Rootfses(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestRootfsSurvivesTheStore(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	s := openStore(t, c)
	pushed := w.push("survives/image:1", small("survivor"))
	img, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.CreateRootfs(t.Context(), RootfsRequest{ID: "c1", ImageID: img.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(filepath.Join(c.Root, "rootfs", "half-made"), 0o700)
	os.MkdirAll(filepath.Join(c.Root, "rootfs", ".gone-x", "upper"), 0o700)
	s = openStore(t, c)
	if body, err := os.ReadFile(root.Path + "/etc/mark"); err != nil || string(body) != "survivor" {
		t.Errorf("the mount shows %q, %v", body, err)
	}
	if path, err := s.MountRootfs(t.Context(), "c1"); err != nil || path != root.Path {
		t.Errorf("MountRootfs = %s, %v", path, err)
	}
	if ids, _ := s.Rootfses(t.Context()); fmt.Sprint(ids) != "[c1 half-made]" {
		t.Errorf("Rootfses = %v", ids)
	}
	if err := s.Remove(t.Context(), pushed.Ref); !errors.Is(err, pod.ErrState) {
		t.Errorf("removal of the image in use: %v", err)
	}
}

func TestManyRootfsesAtOnceWhileImagesComeAndGo(t *testing.T) {
	w := newWorld(t)
	img := w.pull(w.push("storm/base:1", small("base")).Ref)
	other := w.push("storm/other:1", small("other"))
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 25 {
				id := fmt.Sprintf("w%d-%d", worker, i)
				if _, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: id, ImageID: img.ID}); err != nil {
					t.Error(err)
				}
				if err := w.RemoveRootfs(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 5 {
			if _, err := w.Pull(t.Context(), PullRequest{Ref: other.Ref}); err != nil {
				t.Error(err)
			}
			if err := w.Remove(t.Context(), other.Ref); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if left, _ := os.ReadDir(filepath.Join(w.Store.config.Root, "rootfs")); len(left) != 0 {
		t.Errorf("%d directories are left", len(left))
	}
}

func TestDiskUseIsWhatTheDiskSays(t *testing.T) {
	w := newWorld(t)
	img := w.pull(w.push("usage/image:1", everything(fixture.Gzip, false)).Ref)
	w.pull(w.push("usage/image:2", bulky(3<<20+5)).Ref)
	info, err := w.FsInfo(t.Context())
	if err != nil || info.Mountpoint == "" || time.Since(info.At) > time.Minute {
		t.Fatalf("%+v, %v", info, err)
	}
	var walked Usage
	layers, err := w.storage.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		u, err := measure(t.Context(), w.layerDir(l.ID)+"/diff")
		if err != nil {
			t.Fatal(err)
		}
		walked.Bytes += u.Bytes
		walked.Inodes += u.Inodes
	}
	if diff := float64(info.Images.Bytes) / float64(walked.Bytes); diff < 0.97 || diff > 1.03 {
		t.Errorf("counted %+v, walked %+v", info.Images, walked)
	}
	if diff := int64(info.Images.Inodes) - int64(walked.Inodes); diff < -2 || diff > 2 {
		t.Errorf("counted %+v, walked %+v", info.Images, walked)
	}
	root, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "c", ImageID: img.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root.Path+"/big", make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	bytes, inodes, err := w.RootfsUsage(t.Context(), "c")
	if info, _ = w.FsInfo(t.Context()); err != nil || bytes < 1<<20 || bytes > 1<<20+64<<10 || inodes != 2 || info.Containers.Bytes != bytes {
		t.Errorf("usage is %d bytes, %d inodes, %+v, %v", bytes, inodes, info.Containers, err)
	}
}
