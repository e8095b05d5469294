package cri

import (
	"slices"
	"sync"
	"testing"
)

func TestSideBySideKeepsTheOrderAndLeavesOutWhatIsNotThere(t *testing.T) {
	var list, want []int
	for i := range 1000 {
		list = append(list, i)
		if i%3 != 0 {
			want = append(want, 2*i)
		}
	}
	var mu sync.Mutex // guards calls
	calls := 0
	got := sideBySide(list, func(i int) (int, bool) {
		mu.Lock()
		calls++
		mu.Unlock()
		return 2 * i, i%3 != 0
	})
	if !slices.Equal(got, want) || calls != len(list) {
		t.Errorf("%d calls found %v", calls, got)
	}
	if got := sideBySide(nil, func(int) (int, bool) { return 0, true }); len(got) != 0 {
		t.Errorf("nothing has %v", got)
	}
}
