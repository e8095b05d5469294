package cri

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// readers bounds how many objects' figures are read side by side for one call. What the
// kernel takes to tell them is most of it.
const readers = 4

// sideBySide calls read for each of list, several at once, and returns what it found in
// the order of list; read says whether it found something. It returns when all have
// returned, also after a failure.
func sideBySide[T, R any](list []T, read func(T) (R, bool)) []R {
	found, has := make([]R, len(list)), make([]bool, len(list))
	var next atomic.Int64
	var work sync.WaitGroup
	for range min(readers, runtime.GOMAXPROCS(0), len(list)) {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list); i = int(next.Add(1)) - 1 {
				found[i], has[i] = read(list[i])
			}
		})
	}
	work.Wait()
	kept := found[:0]
	for i, one := range found {
		if has[i] {
			kept = append(kept, one)
		}
	}
	return kept
}
