package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// outside is a directory that no layer may reach: by its own path, and by way of any
// number of parents.
func outside(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		entries, _ := os.ReadDir(dir)
		body, _ := os.ReadFile(filepath.Join(dir, "secret"))
		info, err := os.Stat(filepath.Join(dir, "secret"))
		if len(entries) != 1 || string(body) != "untouched" || err != nil || info.Mode().Perm() != 0o600 || info.Sys() == nil {
			t.Errorf("a layer reached %s: %v %q", dir, entries, body)
		}
	})
	return dir
}

func TestLayersStayInTheirDirectory(t *testing.T) {
	w := newWorld(t)
	target := outside(t)
	climb := strings.Repeat("../", 40) + strings.TrimPrefix(target, "/")
	link := func(name, to string) fixture.File {
		return fixture.File{Name: name, Type: tar.TypeSymlink, Linkname: to}
	}
	for name, test := range map[string]struct {
		files []fixture.File
		kind  error // nil: the layer is accepted
	}{
		"climbing name":                 {[]fixture.File{{Name: climb + "/new", Body: []byte("x")}}, pod.ErrInvalid},
		"climbing name inside":          {[]fixture.File{{Name: "a/"}, {Name: "a/../../" + climb + "/new"}}, pod.ErrInvalid},
		"file through a link":           {[]fixture.File{link("l", target), {Name: "l/new", Body: []byte("x")}}, nil},
		"file through a climbing link":  {[]fixture.File{link("l", climb), {Name: "l/new", Body: []byte("x")}}, nil},
		"directory through a link":      {[]fixture.File{link("l", target), {Name: "l/sub/", Mode: 0o777}}, nil},
		"file on a link":                {[]fixture.File{link("l", target+"/secret"), {Name: "l", Body: []byte("x")}}, nil},
		"hard link by a climbing name":  {[]fixture.File{{Name: "h", Type: tar.TypeLink, Linkname: climb + "/secret"}}, pod.ErrInvalid},
		"hard link through a link":      {[]fixture.File{link("l", target), {Name: "h", Type: tar.TypeLink, Linkname: "l/secret"}}, errAny},
		"hard link to an absolute name": {[]fixture.File{{Name: "h", Type: tar.TypeLink, Linkname: target + "/secret"}}, errAny},
		"hard link, then written":       {[]fixture.File{link("l", target+"/secret"), {Name: "h", Type: tar.TypeLink, Linkname: "l", Mode: 0o777}, {Name: "h", Body: []byte("x")}}, nil},
		"mode through a link":           {[]fixture.File{link("l", target+"/secret"), {Name: "h", Type: tar.TypeLink, Linkname: "l", Mode: 0o777}}, nil},
		"directory replaced by a link":  {[]fixture.File{{Name: "d/"}, {Name: "d/x"}, link("d", target), {Name: "d/new"}}, errAnyOrNone},
		"times through a replaced name": {[]fixture.File{{Name: "d/"}, link("d", target)}, errAnyOrNone},
		"whiteout through a link":       {[]fixture.File{link("l", target), {Name: "l/.wh.secret"}}, nil},
		"opaque through a link":         {[]fixture.File{link("l", target), {Name: "l/.wh..wh..opq"}}, nil},
		"whiteout of parent":            {[]fixture.File{{Name: "a/"}, {Name: "a/.wh..."}}, errAnyOrNone},
		"whiteout of nothing":           {[]fixture.File{{Name: ".wh."}}, errAny},
		"whiteout of self":              {[]fixture.File{{Name: "a/"}, {Name: "a/.wh.."}}, errAny},
		"root as a file":                {[]fixture.File{{Name: ".", Body: []byte("x")}}, pod.ErrInvalid},
		"root as a link":                {[]fixture.File{link("./", target)}, errAny},
		"overlay attributes":            {[]fixture.File{{Name: "d/", Xattrs: map[string]string{"trusted.overlay.redirect": "/" + climb, "trusted.overlay.opaque": "y"}}}, nil},
		"magic link":                    {[]fixture.File{link("l", "/proc/self/root"), {Name: "l/" + target[1:] + "/new", Body: []byte("x")}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			pushed := w.push("hostile/image:"+strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", ""), fixture.Image{Layers: []fixture.Layer{{Files: test.files}}})
			img, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
			switch {
			case test.kind == errAnyOrNone:
			case test.kind == nil && err != nil, test.kind == errAny && err == nil, test.kind != nil && test.kind != errAny && !errors.Is(err, test.kind):
				t.Errorf("got %v, want %v", err, test.kind)
			}
			if name == "overlay attributes" && err == nil {
				var value [10]byte
				for _, attr := range []string{"trusted.overlay.redirect", "trusted.overlay.opaque"} {
					if _, err := unix.Lgetxattr(w.layerDir(img.layers[0])+"/diff/d", attr, value[:]); err != unix.ENODATA {
						t.Errorf("%s: %v", attr, err)
					}
				}
			}
			if err == nil {
				if err := w.Remove(t.Context(), pushed.Ref); err != nil {
					t.Error(err)
				}
			}
			w.nothingStaged()
		})
	}
}

var errAny, errAnyOrNone = errors.New("some error"), errors.New("some error or none")

func TestBombsHitABoundThatIsNamed(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxLayerBytes, c.MaxLayerEntries = 4<<20, 1000 })
	many := make([]fixture.File, 1001)
	for i := range many {
		many[i] = fixture.File{Name: fmt.Sprint(i)}
	}
	pax := tarOf(t, fixture.File{Name: "a", Xattrs: map[string]string{"user.x": strings.Repeat("x", 900<<10)}})
	pax = bytes.Repeat(pax[:len(pax)-3*512], 30) // the extended header again and again, its file cut off
	for name, layer := range map[string]fixture.Layer{
		"gzip":    {Files: []fixture.File{{Name: "zeros", Body: make([]byte, 64<<20)}}},
		"zstd":    {Files: []fixture.File{{Name: "zeros", Body: make([]byte, 64<<20)}}, Compression: fixture.Zstd},
		"entries": {Files: many},
		"sparse":  {Tar: sparseTar(1 << 62)},
		"tail":    {Tar: append(tarOf(t, fixture.File{Name: "a"}), make([]byte, 5<<20)...)},
		"headers": {Tar: pax},
	} {
		t.Run(name, func(t *testing.T) {
			pushed := w.push("bomb/image:"+name, fixture.Image{Layers: []fixture.Layer{layer}})
			_, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
			if !errors.Is(err, pod.ErrExhausted) || errorClass(err) != "limit" || !strings.ContainsAny(err.Error(), "0123456789") {
				t.Errorf("got %v", err)
			}
			w.nothingStaged()
		})
	}
	for name, img := range map[string]fixture.Image{
		"layers": {Layers: make([]fixture.Layer, maxLayers+1)},
		"config": {ConfigPadding: maxConfig},
	} {
		pushed := w.push("bomb/image:"+name, img)
		if _, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); !errors.Is(err, pod.ErrExhausted) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestMalformedArchivesAreRefusedWhole(t *testing.T) {
	w := newWorld(t)
	whole := tarOf(t, fixture.File{Name: "a", Body: make([]byte, 5000)}, fixture.File{Name: "b", Body: make([]byte, 5000)})
	broken := bytes.Clone(whole)
	broken[512*11] ^= 0xff
	for name, raw := range map[string][]byte{"cut-off": whole[:9000], "bad-checksum": broken, "no-archive": bytes.Repeat([]byte("junk"), 4000)} {
		pushed := w.push("malformed/image:"+name, fixture.Image{Layers: []fixture.Layer{{Tar: raw}}})
		if _, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); err == nil {
			t.Errorf("%s was accepted", name)
		}
		w.nothingStaged()
	}
	twice := w.push("malformed/image:twice", fixture.Image{Layers: []fixture.Layer{{Files: []fixture.File{{Name: "a", Body: []byte("1")}, {Name: "a", Body: []byte("2")}}}}})
	img := w.pull(twice.Ref)
	if body, err := os.ReadFile(w.layerDir(img.layers[0]) + "/diff/a"); err != nil || string(body) != "2" {
		t.Errorf("a name that occurs twice has the content %q, %v", body, err)
	}
}

func tarOf(t *testing.T, files ...fixture.File) []byte {
	t.Helper()
	raw, err := fixture.Tar(files)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// sparseTar is an archive of one old GNU sparse file that claims size bytes.
func sparseTar(size uint64) []byte {
	h := make([]byte, 512)
	copy(h, "holes")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], "00000000000\x0000000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	h[386+12] = 0x80
	h[386] = 0x80
	binary.BigEndian.PutUint64(h[386+4:], size) // one empty piece at the end
	h[483] = 0x80
	binary.BigEndian.PutUint64(h[483+4:], size)
	sum := 0
	copy(h[148:], "        ")
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(h, make([]byte, 1024)...)
}
