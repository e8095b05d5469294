package e2e

import (
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// proveFields chooses the rows of the field table that are put to the proof; one run of
// a test each, so a quarter of an hour for all of them.
var proveFields = flag.String("prove-fields", "", "prove that the tests named in fields.txt fail without their `field`s, a regular expression")

// A test that the table names for a field fails when no request carries that field: it
// exercises the field and does not just mention it.
func TestNamedTestsFailWithoutTheirField(t *testing.T) {
	if *proveFields == "" {
		t.Skip("a long run: give -prove-fields=REGEXP, . for all (make fields)")
	}
	built := builtBinaries(t)
	chosen := regexp.MustCompile(*proveFields)
	table := readFieldTable(t, fieldTable)
	for _, field := range slices.Sorted(maps.Keys(table)) {
		test := table[field]
		if !strings.HasPrefix(test, "Test") || !chosen.MatchString(field) {
			continue
		}
		t.Run(field, func(t *testing.T) {
			if strings.Contains(strings.ToLower(field), "hugepage") && !limitsHugePages() {
				t.Skip("this host has no hugetlb controller")
			}
			out, err := runWithout(t, built, test, field)
			var exit *exec.ExitError
			switch {
			case err == nil && strings.Contains("\n"+out, "\n--- SKIP: "+test+" ("):
				t.Skipf("%s is skipped here", test)
			case err == nil:
				t.Errorf("%s passes with requests that lack %s", test, field)
			case !errors.As(err, &exit) || exit.ExitCode() != 1:
				t.Errorf("%s: %v\n%.2000s", test, err, out)
			default:
				t.Logf("%s fails as it should: %s", test, complaint(out))
			}
		})
	}
}

// runWithout runs one test of this binary in a process whose clients leave the field out.
func runWithout(t *testing.T, built, test, field string) (out string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), harness.Scale(5*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), harness.BinEnv+"="+built, harness.WithoutEnv+"="+field)
	raw, err := cmd.CombinedOutput()
	return string(raw), err
}

// builtBinaries is a directory with everything that the harness would build in each process.
func builtBinaries(t *testing.T) string {
	t.Helper()
	bin := harness.Must(harness.Bin())(t)
	dir := t.TempDir()
	for _, entry := range harness.Must(os.ReadDir(bin))(t) {
		if err := os.Symlink(filepath.Join(bin, entry.Name()), filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	program := harness.Must(harness.Payload())(t)
	os.Remove(filepath.Join(dir, "payload"))
	if err := os.WriteFile(filepath.Join(dir, "payload"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// complaint is the first line in which a test says what is wrong.
func complaint(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "_test.go:") {
			return strings.TrimSpace(line)
		}
	}
	return "without a word"
}
