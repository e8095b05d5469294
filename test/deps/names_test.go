package deps

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+…?`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	// place is a package as documents name it, or a test that they do.
	place = regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9]+)*)`|" + testName.String())
)

// testsOf finds the tests of the tree by directory.
func testsOf(t *testing.T, root string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		for _, m := range testFunc.FindAllStringSubmatch(string(raw), -1) {
			all[dir] = append(all[dir], m[1])
		}
		return err
	})
	if err != nil || len(all) < 20 {
		t.Fatalf("%d packages with tests: %v", len(all), err)
	}
	return all
}

// has reports whether name, or with an ellipsis what begins so, is among the tests.
func has(tests []string, name string) bool {
	begin, many := strings.CutSuffix(name, "…")
	return slices.Contains(tests, name) || many && slices.ContainsFunc(tests, func(t string) bool { return strings.HasPrefix(t, begin) })
}

// A document that says which test keeps what is worth nothing when the test is gone.
func TestNamedTestsExist(t *testing.T) {
	const root = "../.."
	tests := testsOf(t, root)
	var all []string
	for _, names := range tests {
		all = append(all, names...)
	}
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	decisions, err := filepath.Glob(root + "/docs/decisions/*.md")
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	for _, file := range append(files, decisions...) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range testName.FindAllString(string(raw), -1) {
			if !has(all, name) {
				t.Errorf("%s names %s, which is no test", file, name)
			}
		}
	}

	raw, err := os.ReadFile(root + "/docs/monitor-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, "| test |\n") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if cells[0] == fmt.Sprint(next) {
			next++
		}
		where, found := "", 0
		for _, m := range place.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			switch {
			case m[1] != "":
				if where = m[1]; tests[where] == nil {
					t.Errorf("%q: %s is no package with tests", cells[0], where)
				}
			case has(tests[where], m[0]):
				found++
			default:
				t.Errorf("%q: package %q has no %s", cells[0], where, m[0])
			}
		}
		if found == 0 {
			t.Errorf("%q has no test", cells[0])
		}
	}
	if next != 20 {
		t.Errorf("%d faults of others have a row, want 19", next-1)
	}
}
