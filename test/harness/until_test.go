package harness

import (
	"strconv"
	"testing"
	"time"
)

func TestWhatBeginsTooLateIsSkipped(t *testing.T) {
	now := time.Now().Unix()
	for _, tc := range []struct {
		name, until string
		skipped     bool
	}{
		{"no limit", "", false},
		{"time enough", strconv.FormatInt(now+1000, 10), false},
		{"now", strconv.FormatInt(now, 10), true},
		{"long ago", "1", true},
	} {
		t.Setenv(UntilEnv, tc.until)
		began, skipped := false, false
		t.Run(tc.name, func(t *testing.T) {
			defer func() { skipped = t.Skipped() }()
			skipLate(t)
			began = true
		})
		if skipped != tc.skipped || began == tc.skipped {
			t.Errorf("%s: skipped is %t, begun %t", tc.name, skipped, began)
		}
	}
}
