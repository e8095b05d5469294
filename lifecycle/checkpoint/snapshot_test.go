package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

// part is an entry of an archive.
type part struct {
	name, content string
	kind          byte // zero: a file
}

var wholeArchive = []part{
	{name: "config.dump", content: `{"id":"a","name":"c","rootfsImage":"i"}`},
	{name: "spec.dump", content: `{"ociVersion":"1","process":{"cwd":"/"},"root":{"path":"/"},"linux":{}}`},
	{name: "checkpoint/", kind: tar.TypeDir},
	{name: "checkpoint/inventory.img", content: "images"},
	{name: "checkpoint/descriptors.json", content: `["/dev/null","pipe:[1]","pipe:[2]"]`},
	{name: "rootfs-diff.tar", content: "files"},
	{name: "deleted.files", content: `["gone"]`},
}

func archiveOf(t testing.TB, parts []part) []byte {
	t.Helper()
	var raw bytes.Buffer
	to := tar.NewWriter(&raw)
	for _, p := range parts {
		h := &tar.Header{Name: p.name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(p.content))}
		if p.kind != 0 {
			h.Typeflag, h.Linkname = p.kind, "/etc/passwd"
		}
		if err := to.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write([]byte(p.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

// unpackForTest opens and unpacks an archive as RestorePod does, in a directory of its own.
func unpackForTest(t testing.TB, raw []byte) (base string, deleted []string, err error) {
	t.Helper()
	base = t.TempDir()
	from, into := filepath.Join(base, "from"), filepath.Join(base, "into")
	for _, dir := range []string{from, into} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(from, "x.tar"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := Open(context.Background(), from)
	if err != nil {
		return base, nil, err
	}
	defer CloseAll(found)
	for _, s := range found {
		deleted, err = s.Unpack(context.Background(), Work(into))
	}
	return base, deleted, err
}

func TestArchiveIsTakenApart(t *testing.T) {
	base, deleted, err := unpackForTest(t, archiveOf(t, append([]part{{name: "container.log", kind: tar.TypeSymlink}, {name: "../../outside", content: "x"}}, wholeArchive...)))
	if err != nil || len(deleted) != 1 || deleted[0] != "gone" {
		t.Fatalf("deleted %v, %v", deleted, err)
	}
	for name, want := range map[string]string{"images/inventory.img": "images", "changes": "files"} {
		if got, err := os.ReadFile(filepath.Join(base, "into", name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if entries, _ := os.ReadDir(base); len(entries) != 2 {
		t.Errorf("beside: %v", entries)
	}
}

func TestHostileArchivesAreRefusedInOneLine(t *testing.T) {
	without := func(name string) (rest []part) {
		for _, p := range wholeArchive {
			if p.name != name {
				rest = append(rest, p)
			}
		}
		return rest
	}
	with := func(more ...part) []part { return append(append([]part{}, wholeArchive...), more...) }
	for name, c := range map[string]struct {
		parts []part
		want  string
	}{
		"no config":              {without("config.dump"), "missing"},
		"no spec":                {without("spec.dump"), "missing"},
		"no images":              {without("checkpoint/inventory.img"), "no images"},
		"no descriptors":         {without("checkpoint/descriptors.json"), "descriptors.json"},
		"image that climbs":      {with(part{name: "checkpoint/../../x", content: "x"}), "plain files"},
		"image in a directory":   {with(part{name: "checkpoint/a/b", content: "x"}), "plain files"},
		"image that is a link":   {with(part{name: "checkpoint/l", kind: tar.TypeSymlink}), "regular"},
		"image that is a device": {with(part{name: "checkpoint/d", kind: tar.TypeBlock}), "regular"},
		"image twice":            {with(part{name: "checkpoint/inventory.img", content: "x"}), "twice"},
		"files that are a link":  {append(without("rootfs-diff.tar"), part{name: "rootfs-diff.tar", kind: tar.TypeLink}), "regular"},
		"private descriptors":    {append(without("checkpoint/descriptors.json"), part{name: "checkpoint/descriptors.json", content: `["a","b","c","pipe:[9]"]`}), "4 standard streams"},
		"wrong JSON":             {append(without("config.dump"), part{name: "config.dump", content: `{"id":1}`}), "config.dump"},
		"nameless":               {append(without("config.dump"), part{name: "config.dump", content: `{}`}), "names no container"},
		"empty specification":    {append(without("spec.dump"), part{name: "spec.dump", content: `{}`}), "incomplete"},
		"deleted are no list":    {append(without("deleted.files"), part{name: "deleted.files", content: `{"a":1}`}), "deleted.files"},
		"huge document":          {append(without("config.dump"), part{name: "config.dump", content: strings.Repeat(" ", maxDocument+1)}), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpackForTest(t, archiveOf(t, c.parts))
			if !errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Property: whatever the bytes are, nothing is written beside the directory for it, and
// what is written is no more than the archive.
func FuzzArchive(f *testing.F) {
	f.Add(archiveOf(f, wholeArchive))
	f.Add(archiveOf(f, append([]part{{name: "checkpoint/../x", content: "x"}, {name: "checkpoint/l", kind: tar.TypeSymlink}}, wholeArchive...)))
	f.Add([]byte("config.dump"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		base, _, _ := unpackForTest(t, raw)
		if entries, _ := os.ReadDir(base); len(entries) != 2 {
			t.Errorf("beside: %v", entries)
		}
		total := int64(0)
		filepath.Walk(filepath.Join(base, "into"), func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				total += info.Size()
			} else if err == nil && !info.IsDir() {
				t.Errorf("%s is %v", info.Name(), info.Mode())
			}
			return nil
		})
		if total > int64(len(raw)) {
			t.Errorf("%d bytes of %d", total, len(raw))
		}
	})
}
