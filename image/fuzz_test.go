package image

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// FuzzUnpackStaysInside: whatever the archive, nothing beside the layer's directory
// changes, and its use of disk stays within the bounds.
func FuzzUnpackStaysInside(f *testing.F) {
	for _, layer := range everything(fixture.None, false).Layers {
		for i := range layer.Files {
			layer.Files[i].Body = layer.Files[i].Body[:min(10, len(layer.Files[i].Body))] // small seeds
		}
		raw, err := fixture.Tar(layer.Files)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add(sparseTar(1 << 40))
	f.Fuzz(func(t *testing.T, raw []byte) {
		base := t.TempDir()
		layer, staging := filepath.Join(base, "layer"), filepath.Join(base, "staging")
		for _, dir := range []string{layer, staging} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		split, err := newSplitter(staging)
		if err != nil {
			t.Fatal(err)
		}
		defer split.file.Close()
		s := &layerStream{diffID: digest.FromBytes(raw), size: int64(len(raw)), maxBytes: 1 << 20, touch: func() {}}
		s.start(context.Background(), bytes.NewReader(raw), func(error) {})
		u := &unpacker{split: split, maxEntries: 100, maxBytes: 1 << 20}
		out, err := u.unpack(layer, s.files)
		s.note(err)
		s.wait()
		entries, _ := os.ReadDir(base)
		left, _ := os.ReadDir(staging)
		if len(entries) != 2 || len(left) != 0 {
			t.Errorf("beside the layer: %v %v", entries, left)
		}
		if out.entries > 100 || out.usage.Bytes > 3<<20 {
			t.Errorf("%+v", out)
		}
	})
}

// FuzzCandidates: what is accepted is a full name with a tag or a digest that means
// itself again.
func FuzzCandidates(f *testing.F) {
	for _, seed := range []string{"busybox", "a/b:c", "host:5000/x@sha256:" + strings.Repeat("0", 64), "docker://q.io/x", "..", "a//b"} {
		f.Add(seed)
	}
	s := &Store{config: Config{Root: f.TempDir(), RegistriesConf: "/nonexistent"}}
	f.Fuzz(func(t *testing.T, text string) {
		names, err := candidates(s.system(), text)
		if err != nil {
			return
		}
		for _, n := range names {
			again, err := candidates(s.system(), n.String())
			if err != nil || len(again) != 1 || again[0].String() != n.String() {
				t.Errorf("%q means %q, which means %v, %v", text, n, again, err)
			}
		}
	})
}
