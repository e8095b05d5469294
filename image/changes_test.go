package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

var plenty = ChangesLimit{Entries: 1000, Bytes: 1 << 20}

// overlay mounts a root file system of one layer, which make fills, and returns a store
// that knows it as "c".
func overlayStore(t *testing.T, fill func(lower string)) (s *Store, merged string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("overlay mounts need root")
	}
	s = &Store{config: Config{Root: t.TempDir()}}
	lower := filepath.Join(s.rootfsDir(), emptyLayer)
	for _, dir := range []string{lower, s.rootfsPath("c", "upper"), s.rootfsPath("c", "work"), s.rootfsPath("c", "merged")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fill(lower)
	if err := os.WriteFile(s.rootfsPath("c", "record"), []byte(`{"version":1,"image":"i"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	merged = s.rootfsPath("c", "merged")
	if err := mountOverlay([]string{lower}, s.rootfsPath("c", "upper"), s.rootfsPath("c", "work"), merged, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	return s, merged
}

// image is what both root file systems begin with.
func fillLower(t *testing.T) func(string) {
	return func(dir string) {
		must(t, os.MkdirAll(dir+"/d/sub", 0o755))
		for _, name := range []string{"gone", "same", "d/old", "d/sub/deep"} {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChangesThatWereSavedMakeTheSameFilesElsewhere(t *testing.T) {
	s, here := overlayStore(t, fillLower(t))
	must(t, os.Remove(here+"/gone"))
	must(t, os.RemoveAll(here+"/d")) // and made anew: overlayfs calls it opaque
	must(t, os.MkdirAll(here+"/d/sub", 0o2750))
	must(t, os.Chmod(here+"/d/sub", 0o2750|os.ModeSetgid))
	must(t, os.WriteFile(here+"/d/new", []byte("new"), 0o640))
	must(t, os.Chown(here+"/d/new", 12, 34))
	must(t, unix.Lsetxattr(here+"/d/new", "trusted.note", []byte("kept"), 0))
	must(t, os.Link(here+"/d/new", here+"/d/sub/twin"))
	must(t, os.Symlink("../same", here+"/d/link"))
	must(t, unix.Mkfifo(here+"/fifo", 0o600))
	must(t, unix.Mknod(here+"/socket", unix.S_IFSOCK|0o600, 0))

	var archive bytes.Buffer
	deleted, err := s.SaveChanges(t.Context(), "c", &archive)
	must(t, err)
	slices.Sort(deleted)
	if want := []string{"d/old", "d/sub/deep", "gone"}; !slices.Equal(deleted, want) {
		t.Errorf("deleted %v, want %v", deleted, want)
	}

	other, there := overlayStore(t, fillLower(t))
	must(t, other.ApplyChanges(t.Context(), "c", &archive, deleted, plenty))
	for _, name := range deleted {
		if _, err := os.Lstat(filepath.Join(there, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"same", "d", "d/new", "d/sub", "d/sub/twin", "d/link", "fifo"} {
		var a, b unix.Stat_t
		must(t, unix.Lstat(filepath.Join(here, name), &a))
		if err := unix.Lstat(filepath.Join(there, name), &b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mode&unix.S_IFMT == unix.S_IFREG && a.Nlink != b.Nlink || name != "same" && a.Mtim != b.Mtim {
			t.Errorf("%s: got %+v, want %+v", name, b, a)
		}
	}
	if text, err := os.ReadFile(there + "/d/sub/twin"); err != nil || string(text) != "new" {
		t.Errorf("twin: %q, %v", text, err)
	}
	value := make([]byte, 16)
	if n, err := unix.Lgetxattr(there+"/d/new", "trusted.note", value); err != nil || string(value[:n]) != "kept" {
		t.Errorf("attribute: %q, %v", value[:max(n, 0)], err)
	}
	if _, err := os.Lstat(there + "/socket"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
}

// What an archive of changes says is done inside the root file system or not at all.
func TestHostileChangesAreRefusedOrStayInside(t *testing.T) {
	type entry = tar.Header
	for name, c := range map[string]struct {
		entries []entry
		deleted []string
		want    error // nil: it is done, inside
	}{
		"climbs":            {entries: []entry{{Name: "../../x", Typeflag: tar.TypeReg, Size: 1}}, want: pod.ErrInvalid},
		"absolute":          {entries: []entry{{Name: "/outside/x", Typeflag: tar.TypeReg, Size: 1}}},
		"through a link":    {entries: []entry{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../outside"}, {Name: "outside", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "l/x", Typeflag: tar.TypeReg, Size: 1}}},
		"hard link":         {entries: []entry{{Name: "h", Typeflag: tar.TypeLink, Linkname: "../outside/secret"}}, want: pod.ErrInvalid},
		"device":            {entries: []entry{{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}}, want: pod.ErrInvalid},
		"whiteout":          {entries: []entry{{Name: ".wh.same", Typeflag: tar.TypeReg}}, want: pod.ErrInvalid},
		"root":              {entries: []entry{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o777}}, want: pod.ErrInvalid},
		"too large":         {entries: []entry{{Name: "x", Typeflag: tar.TypeReg, Size: 2 << 20}}, want: pod.ErrExhausted},
		"deletes the root":  {deleted: []string{"/"}, want: pod.ErrInvalid},
		"deletes above":     {deleted: []string{"../outside"}, want: pod.ErrInvalid},
		"deletes by a link": {entries: []entry{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/../../outside"}}, deleted: []string{"l/secret"}},
		"too many":          {deleted: make([]string, 2000), want: pod.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			root := filepath.Join(base, "root")
			must(t, os.MkdirAll(base+"/outside", 0o755))
			must(t, os.WriteFile(base+"/outside/secret", []byte("s"), 0o600))
			must(t, os.Mkdir(root, 0o755))
			var raw bytes.Buffer
			to := tar.NewWriter(&raw)
			for _, h := range c.entries {
				must(t, to.WriteHeader(&h))
				_, err := to.Write([]byte(strings.Repeat("x", int(h.Size))))
				must(t, err)
			}
			must(t, to.Close())
			err := applyChanges(context.Background(), root, &raw, c.deleted, plenty)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if left, err := os.ReadDir(base + "/outside"); err != nil || len(left) != 1 {
				t.Errorf("outside: %v, %v", left, err)
			}
			if entries, _ := os.ReadDir(base); len(entries) != 2 {
				t.Errorf("beside: %v", entries)
			}
		})
	}
}

// Property: whatever the bytes are, nothing appears beside the root, and no more files
// and bytes in it than the limit allows.
func FuzzApplyChanges(f *testing.F) {
	var raw bytes.Buffer
	to := tar.NewWriter(&raw)
	for _, h := range []tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../../x"},
		{Name: "d/l/f", Typeflag: tar.TypeReg, Size: 3}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f"}} {
		if err := to.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		if h.Size > 0 {
			to.Write([]byte("abc"))
		}
	}
	to.Close()
	f.Add(raw.Bytes(), "d/l/f")
	f.Fuzz(func(t *testing.T, raw []byte, deleted string) {
		base := t.TempDir()
		root := filepath.Join(base, "root")
		must(t, os.Mkdir(root, 0o755))
		_ = applyChanges(context.Background(), root, bytes.NewReader(raw), []string{deleted}, ChangesLimit{Entries: 50, Bytes: 1 << 16})
		if entries, _ := os.ReadDir(base); len(entries) != 1 {
			t.Errorf("beside the root: %v", entries)
		}
	})
}
