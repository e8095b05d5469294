// Package golden compares what a test made with a committed file, and writes that file
// anew for `go test -update`: whoever does so reads the difference before it is committed.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Update says whether golden files are to be written anew.
func Update() bool { return *update }

// Check is an error where the file at path, relative to the test's package, does not have
// got. With -update it has it from now on.
func Check(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew) at %s", path, difference(got, string(want)))
	}
}

// context is how many lines stand before and after the first one that differs.
const context = 5

// difference shows the first line that differs, with those around it.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	at := 0
	for at < len(g) && at < len(w) && g[at] == w[at] {
		at++
	}
	around := func(lines []string) string {
		return strings.Join(lines[min(len(lines), max(0, at-context)):min(len(lines), at+context+1)], "\n")
	}
	return "\n" + around(g) + "\nwant\n" + around(w)
}
