package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// everything is an image with every kind of entry that layers legally have.
func everything(c fixture.Compression, schema2 bool) fixture.Image {
	long := strings.Repeat("directory/", 12) + strings.Repeat("n", 200)
	return fixture.Image{Schema2: schema2, Config: v1.ImageConfig{Env: []string{"A=b"}}, Layers: []fixture.Layer{
		{Compression: c, Files: []fixture.File{
			{Name: "./", Mode: 0o751, UID: 3, GID: 4},
			{Name: "bin/", Mode: 0o755},
			{Name: "bin/tool", Body: bytes.Repeat([]byte("tool"), 70000), Mode: 0o4755},
			{Name: "bin/alias", Type: tar.TypeSymlink, Linkname: "tool"},
			{Name: "bin/same", Type: tar.TypeLink, Linkname: "bin/tool", Mode: 0o4755},
			{Name: "lib", Type: tar.TypeSymlink, Linkname: "usr/lib"},
			{Name: "usr/lib/", Mode: 0o700, UID: 1000, GID: 1001},
			{Name: "lib/through-a-link", Body: []byte("x"), UID: 1000, GID: 1001},
			{Name: "abs", Type: tar.TypeSymlink, Linkname: "/usr/lib"},
			{Name: "abs/through-an-absolute-link", Body: []byte("y")},
			{Name: "implied/parents/of/a/file", Body: []byte("z"), Mode: 0o600},
			{Name: "shared/", Mode: 0o2775, GID: 50},
			{Name: "shared/inherits", Body: []byte("g")},
			{Name: "tmp/", Mode: 0o1777},
			{Name: "caps", Body: []byte("c"), Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "user.note": "n"}},
			{Name: "attributed/", Xattrs: map[string]string{"user.dir": "d"}},
			{Name: "dev/null", Type: tar.TypeChar, Major: 1, Minor: 3, Mode: 0o666},
			{Name: "dev/pipe", Type: tar.TypeFifo, Mode: 0o622},
			{Name: long, Body: []byte("long")},
			{Name: "latin1-\xe9", Body: []byte("not utf-8")},
			{Name: "/absolute/name", Body: []byte("a")},
			{Name: "empty", Mode: 0o444},
			{Name: "old", Body: []byte("o"), ModTime: time.Unix(0, 0)},
			{Name: "precise", Body: []byte("p"), ModTime: time.Unix(1500000000, 123456789)},
		}},
		{Compression: c, Files: []fixture.File{
			{Name: "bin/.wh.tool"},
			{Name: "usr/lib/"},
			{Name: "usr/lib/.wh..wh..opq"},
			{Name: "usr/lib/new", Body: []byte("n")},
			{Name: ".wh.implied"},
			{Name: "implied/.wh.parents"},
		}},
		{Compression: c, Files: []fixture.File{}},
	}}
}

func TestConcurrentPathEqualsPlainPath(t *testing.T) {
	w := newWorld(t)
	plain := openStore(t, w.config(func(c *Config) { c.PlainPull = true }))
	for _, c := range []fixture.Compression{fixture.Gzip, fixture.Zstd, fixture.None} {
		for _, schema2 := range []bool{false, true} {
			if schema2 && c == fixture.Zstd {
				continue
			}
			name := fmt.Sprintf("every/%s:%v", c, schema2)
			t.Run(name, func(t *testing.T) {
				pushed := w.push(name, everything(c, schema2))
				fast := w.pull(pushed.Ref)
				slow, err := plain.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
				if err != nil {
					t.Fatal(err)
				}
				if fast.ID != slow.ID || !slices.Equal(fast.layers, slow.layers) || fast.Size != slow.Size || fast.Digest != slow.Digest ||
					!slices.Equal(fast.RepoTags, slow.RepoTags) || !slices.Equal(fast.RepoDigests, slow.RepoDigests) {
					t.Errorf("images differ:\n%+v\n%+v", fast, slow)
				}
				for _, id := range fast.layers {
					compareLayers(t, w.Store, plain, id)
				}
				for _, s := range []*Store{w.Store, plain} { // the next compression makes its own
					if err := s.Remove(t.Context(), pushed.Ref); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

func compareLayers(t *testing.T, a, b *Store, id string) {
	t.Helper()
	describe := func(s *Store) string {
		layer, err := s.storage.Layer(id)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(layer.Parent, layer.CompressedDigest, layer.UncompressedDigest, layer.UncompressedSize, layer.UIDs, layer.GIDs)
	}
	if x, y := describe(a), describe(b); x != y {
		t.Errorf("layer %s differs:\n%s\n%s", id, x, y)
	}
	x, y := listing(t, a.layerDir(id)+"/diff"), listing(t, b.layerDir(id)+"/diff")
	for _, line := range x {
		if !slices.Contains(y, line) {
			t.Errorf("layer %s: only the concurrent path makes %s", id, line)
		}
	}
	for _, line := range y {
		if !slices.Contains(x, line) {
			t.Errorf("layer %s: only the plain path makes %s", id, line)
		}
	}
	if x, y := headers(t, a, id), headers(t, b, id); x != y {
		t.Errorf("tar-split of layer %s differs:\n%s\n%s", id, x, y)
	}
	if x, y := rebuilt(a, id), rebuilt(b, id); x != y {
		t.Errorf("layer %s is rebuilt as %s and %s", id, x, y)
	}
}

// rebuilt is the digest of the archive that the store makes of a layer, or whether
// it cannot (it does not find files that the archive put below an absolute link).
func rebuilt(s *Store, id string) string {
	plain := archive.Uncompressed
	diff, err := s.storage.Diff("", id, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return "nothing"
	}
	defer diff.Close()
	d, err := digest.FromReader(diff)
	if err != nil {
		return "nothing"
	}
	return d.String()
}

// listing describes a tree, a line per file.
func listing(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%q %o %d:%d links=%d rdev=%d", rel, st.Mode, st.Uid, st.Gid, st.Nlink, st.Rdev)
		if st.Mtim.Sec < 1700000000 { // later ones are of now: the archive does not say
			line += fmt.Sprintf(" mtime=%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch {
		case d.Type().IsRegular():
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size=%d %.20q", len(body), body)
		case d.Type()&fs.ModeSymlink != 0:
			link, _ := os.Readlink(path)
			line += " -> " + link
		}
		names := make([]byte, 4096)
		n, _ := unix.Llistxattr(path, names)
		attrs := strings.FieldsFunc(string(names[:max(n, 0)]), func(r rune) bool { return r == 0 })
		slices.Sort(attrs)
		for _, name := range attrs {
			value := make([]byte, 4096)
			n, _ := unix.Lgetxattr(path, name, value)
			line += fmt.Sprintf(" %s=%q", name, value[:max(n, 0)])
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func headers(t *testing.T, s *Store, id string) string {
	t.Helper()
	f, err := os.Open(filepath.Join(s.config.Root, "overlay-layers", id+".tar-split.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
