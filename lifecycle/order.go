package lifecycle

import (
	"slices"
	"time"
)

// order keeps entries by the time of their creation, so that a list need not sort. What
// is new comes last, which costs nothing; what goes moves those behind it, one word
// each. The zero value is empty.
type order[E comparable] struct{ entries []ordered[E] }

type ordered[E comparable] struct {
	at    int64 // nanoseconds since 1970
	entry E
}

func (o *order[E]) find(at int64) int {
	i, _ := slices.BinarySearchFunc(o.entries, at, func(e ordered[E], at int64) int {
		if e.at < at {
			return -1
		}
		return 1 // of several at one time the first
	})
	return i
}

func (o *order[E]) add(entry E, created time.Time) {
	o.entries = slices.Insert(o.entries, o.find(created.UnixNano()+1), ordered[E]{created.UnixNano(), entry})
}

func (o *order[E]) drop(entry E, created time.Time) {
	for i := o.find(created.UnixNano()); i < len(o.entries); i++ {
		if o.entries[i].entry == entry {
			o.entries = slices.Delete(o.entries, i, i+1)
			return
		}
	}
}

func (o *order[E]) newestFirst() []E {
	all := make([]E, 0, len(o.entries))
	for _, e := range slices.Backward(o.entries) {
		all = append(all, e.entry)
	}
	return all
}
