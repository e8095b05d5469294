package image

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/chunked/compressor"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// chunkedBlob packs a layer as zstd:chunked.
func chunkedBlob(archive []byte) (fixture.Blob, error) {
	var blob bytes.Buffer
	annotations, level := map[string]string{}, 3
	w, err := compressor.ZstdCompressor(&blob, annotations, &level)
	if err != nil {
		return fixture.Blob{}, err
	}
	if _, err := w.Write(archive); err != nil {
		return fixture.Blob{}, err
	}
	if err := w.Close(); err != nil {
		return fixture.Blob{}, err
	}
	return fixture.Blob{Content: blob.Bytes(), Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageLayerZstd,
		Digest: digest.FromBytes(blob.Bytes()), Size: int64(blob.Len()), Annotations: annotations}}, nil
}

// An update of an image that is zstd:chunked fetches what changed; the rest is taken
// from layers on disk, and the result is what a whole pull gives.
func TestPartialPullFetchesOnlyWhatIsNotOnDisk(t *testing.T) {
	const files, size = 64, 32 << 10
	version := func(changed byte) fixture.Image {
		rng := rand.NewChaCha8([32]byte{1})
		layer := fixture.Layer{Pack: chunkedBlob, Files: []fixture.File{{Name: "opt/"}}}
		for i := range files {
			body := make([]byte, size)
			rng.Read(body)
			if i == 7 {
				body[0] = changed
			}
			layer.Files = append(layer.Files, fixture.File{Name: fmt.Sprintf("opt/f%d", i), Body: body})
		}
		return fixture.Image{Layers: []fixture.Layer{layer}}
	}
	for _, partial := range []bool{true, false} {
		t.Run(fmt.Sprint("partial=", partial), func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.PartialPulls = partial })
			w.pull(w.push("chunked/app:1", version(1)).Ref)
			first := w.proxy.Sent()
			pushed := w.push("chunked/app:2", version(2))
			img := w.pull(pushed.Ref)
			second := w.proxy.Sent() - first
			t.Logf("%d bytes for the first version, %d for the second", first, second)
			if first < files*size || partial && second > first/4 || !partial && second < files*size {
				t.Errorf("%d bytes for the first version, %d for the second", first, second)
			}
			if img.ID != pushed.ID {
				t.Errorf("pulled %.12s, want %.12s", img.ID, pushed.ID)
			}
			rootfs, err := w.CreateRootfs(t.Context(), RootfsRequest{ID: "c", ImageID: img.ID})
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range version(2).Layers[0].Files[1:] {
				if got, err := os.ReadFile(rootfs.Path + "/" + f.Name); err != nil || !bytes.Equal(got, f.Body) {
					t.Errorf("file %d is not what was pushed: %v", i, err)
				}
			}
		})
	}
}
