package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// While nothing happens to pods the collector keeps the heap close to what is in use.
func TestDaemonRestsBetweenStarts(t *testing.T) {
	n := start(t, harness.Options{})
	n.must(onePod(n, "before"))
	deadline := time.Now().Add(harness.Scale(time.Minute))
	for {
		page := harness.Must(n.Metrics())(t)
		if strings.Contains(page, "\ngo_gc_gogc_percent 30\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not rest:\n%s", page)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
