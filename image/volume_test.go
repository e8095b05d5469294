package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func TestVolumeIsReadOnlyAndKeepsItsImage(t *testing.T) {
	w := newWorld(t)
	for _, layers := range []int{0, 1, 2, maxLayers} {
		var img fixture.Image
		for i := range layers {
			img.Layers = append(img.Layers, fixture.Layer{Files: []fixture.File{{Name: fmt.Sprintf("dir/file%d", i)}}})
		}
		got := w.pull(w.push(fmt.Sprintf("volume/of%d:1", layers), img).Ref)
		id := VolumeID(fmt.Sprint("container", layers), 7)
		volume, err := w.CreateVolume(t.Context(), RootfsRequest{ID: id, ImageID: got.ID})
		if err != nil {
			t.Fatalf("%d layers: %v", layers, err)
		}
		if entries, err := os.ReadDir(filepath.Join(volume.Path, "dir")); len(entries) != layers {
			t.Errorf("%d layers: %d files, %v", layers, len(entries), err)
		}
		if err := os.WriteFile(filepath.Join(volume.Path, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("%d layers: a write: %v", layers, err)
		}
		if owner := VolumeOwner(id); owner != fmt.Sprint("container", layers) {
			t.Errorf("the owner of %s is %s", id, owner)
		}
		if err := w.Remove(t.Context(), got.ID); !errors.Is(err, pod.ErrState) {
			t.Errorf("removal of an image that is mounted: %v", err)
		}
		if err := w.RemoveRootfs(t.Context(), id); err != nil {
			t.Error(err)
		}
		if err := w.Remove(t.Context(), got.ID); err != nil {
			t.Errorf("removal of an image that is no longer mounted: %v", err)
		}
	}
}

func TestSubPathStaysInsideTheImage(t *testing.T) {
	w := newWorld(t)
	got := w.pull(w.push("volume/links:1", fixture.Image{Layers: []fixture.Layer{{Files: []fixture.File{
		{Name: "data/"}, {Name: "data/file", Body: []byte("inside")},
		{Name: "absolute", Type: tar.TypeSymlink, Linkname: "/data"}, {Name: "climbs", Type: tar.TypeSymlink, Linkname: "../../../../data"},
		{Name: "host", Type: tar.TypeSymlink, Linkname: "/etc/hostname"}, {Name: "loop", Type: tar.TypeSymlink, Linkname: "loop"},
	}}}}).Ref)
	volume, err := w.CreateVolume(t.Context(), RootfsRequest{ID: VolumeID("links", 0), ImageID: got.ID})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"": "", "data": "data", "absolute": "data", "climbs/file": "data/file", "data/../data": "data",
		"host": "-", "loop": "-", "no/such": "-", "data/file/x": "-",
	} {
		found, err := volume.SubPath(path)
		switch {
		case want == "-" && err == nil:
			t.Errorf("%q leads to %s", path, found)
		case want != "-" && (err != nil || found != filepath.Join(volume.Path, want)):
			t.Errorf("%q leads to %s, %v", path, found, err)
		}
	}
}
