package deps

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table of rooms is what a stranger finds the code by.
func TestEveryPackageStandsInTheTableOfRooms(t *testing.T) {
	raw, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := rooms(string(raw))
	var there []string
	for _, g := range []graph{load(t, "0", pureTags, "./..."), load(t, "1", "seccomp", "./launch/...")} {
		for _, pkg := range g.ours() {
			if !below(pkg, "cmd") && !below(pkg, "test") {
				there = append(there, pkg)
			}
		}
	}
	for _, pkg := range there {
		if !slices.Contains(listed, pkg) {
			t.Errorf("%s is not in docs/ARCHITECTURE.md's table of rooms", pkg)
		}
	}
	for _, pkg := range listed {
		if _, err := os.Stat("../../" + pkg + "/go.mod"); err == nil {
			continue // a module of its own, which stands in another one's place
		}
		if !slices.Contains(there, pkg) {
			t.Errorf("docs/ARCHITECTURE.md's table has a room %s that there is not", pkg)
		}
	}
}

// rooms are the packages that the first column names: `a`, `a/b`, or `a` (+ `b`) for a/b.
func rooms(text string) (names []string) {
	_, text, _ = strings.Cut(text, "\n## Rooms\n")
	text, _, _ = strings.Cut(text, "\n## ")
	quoted := regexp.MustCompile("`([a-z/]+)`")
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		own, more, _ := strings.Cut(cells[1], "(+")
		parent := ""
		for _, name := range quoted.FindAllStringSubmatch(own, -1) {
			parent = name[1]
			names = append(names, parent)
		}
		for _, name := range quoted.FindAllStringSubmatch(more, -1) {
			names = append(names, parent+"/"+name[1])
		}
	}
	return names
}

func TestRoomsAreReadFromTheFirstColumn(t *testing.T) {
	got := rooms("`no`\n## Rooms\n\n| room | owns |\n|---|---|\n| `a` | `b` |\n| `c`, `c/d` | x |\n| `e` (+ `f`, `g`) | x |\n| `cmd/*` | x |\n\n## Next\n| `h` | x |\n")
	if want := []string{"a", "c", "c/d", "e", "e/f", "e/g"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
