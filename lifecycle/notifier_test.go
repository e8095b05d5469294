package lifecycle

import "testing"

func TestAskedCallsAreCountedOnceAndNeverLess(t *testing.T) {
	var a askedTotal
	for i, step := range []struct{ asked, seen, want uint64 }{
		{0, 0, 0},
		{5, 0, 5},
		{5, 0, 5},  // read again
		{7, 1, 6},  // one of them the kernel has counted too
		{7, 9, 6},  // which was read later
		{10, 9, 6}, // nine of ten
		{17, 9, 8},
		{17, 0, 8}, // the kernel has forgotten: the container ended
	} {
		a.note("c", step.asked, step.seen)
		if a.total != step.want {
			t.Errorf("step %d: %d, want %d", i, a.total, step.want)
		}
	}
	a.forget("c")
	a.note("d", 2, 0)
	if a.total != 10 || a.known("c") || !a.known("d") {
		t.Errorf("%+v", &a)
	}
}
