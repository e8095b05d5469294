package harness

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// UntilEnv holds a time in seconds since the epoch: a test that would start its daemon
// later is skipped, because a run in a guest has only so much time. Without it all run.
const UntilEnv = "VITRINE_TEST_UNTIL"

// skipLate is told apart from other skips by its words (test/rig/tally).
func skipLate(t testing.TB) {
	t.Helper()
	if until, err := strconv.ParseInt(os.Getenv(UntilEnv), 10, 64); err == nil && time.Now().Unix() >= until {
		t.Skip("no time is left: " + UntilEnv)
	}
}
