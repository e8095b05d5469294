package harness_test

import (
	"testing"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestSlowdownIsThatOfALoadedMachine(t *testing.T) {
	if s := harness.Slowdown(); s < 1 || s > 1000 {
		t.Errorf("%v times slower than an idle machine", s)
	} else {
		t.Logf("%.1f times slower than an idle machine", s)
	}
}
