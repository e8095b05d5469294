package golden

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDifferenceShowsTheFirstLineThatDiffers(t *testing.T) {
	for _, c := range []struct{ got, want, shown string }{
		{"a\nb\n", "a\nc\n", "\na\nb\n\nwant\na\nc\n"},
		{"a\n", "a\nb\n", "\na\n\nwant\na\nb\n"},
		{"", "a", "\n\nwant\na"},
		{"1\n2\n3\n4\n5\n6\n7\n8", "1\n2\n3\n4\n5\n6\nx\n8", "\n2\n3\n4\n5\n6\n7\n8\nwant\n2\n3\n4\n5\n6\nx\n8"},
	} {
		if shown := difference(c.got, c.want); shown != c.shown {
			t.Errorf("of %q and %q: %q, want %q", c.got, c.want, shown, c.shown)
		}
	}
}

type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestCheckFailsWhereTheFileDiffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for got, fails := range map[string]bool{"old\n": false, "new\n": true} {
		r := &recorder{TB: t}
		if Check(r, path, got); r.failed != fails {
			t.Errorf("%q: failed %v", got, r.failed)
		}
	}
	*update = true
	defer func() { *update = false }()
	Check(t, path, "new\n")
}
