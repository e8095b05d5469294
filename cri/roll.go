package cri

import (
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

// roll keeps the items of a list as the wire has them: encoding thousands of unchanged
// items each second would be nearly all that a list costs, and copying them most of what
// is left. Objects are values that do not change; one in another state is another value.
// So an object's item is its own for as long as it is there, and consecutive ones share
// a sheet, which is sent as it is by every list until one of its objects changes.
type roll[T any] struct {
	id   func(*T) pod.ID
	item func(*T) proto.Message // describes an object

	mu     sync.Mutex // guards the rest
	sheets []*sheet[T]
	first  map[*T]*sheet[T] // sheets by their first object
}

// sheet is the encoding of consecutive objects of a list. It does not change.
type sheet[T any] struct {
	objects []*T
	ends    []int // of each object's item in wire
	wire    []byte
	buffer  mem.Buffer // wire, as gRPC takes it
}

const (
	// itemsField is the number of the repeated field in both ListContainersResponse and
	// ListPodSandboxResponse.
	itemsField protowire.Number = 1
	// sheetObjects is how many objects a sheet has on average, and maxSheetObjects the
	// most: what is copied for each change, against what is looked at for each list.
	sheetObjects    = 64
	maxSheetObjects = 256
)

func newRoll[T any](id func(*T) pod.ID, item func(*T) proto.Message) *roll[T] {
	return &roll[T]{id: id, item: item}
}

// list returns the items of those of all that keep chooses, nil for every one, in the
// order of all, and how many there are.
func (r *roll[T]) list(all []*T, keep func(*T) bool) (items mem.BufferSlice, n int, err error) {
	sheets, err := r.encode(all)
	if err != nil {
		return nil, 0, err
	}
	items = make(mem.BufferSlice, 0, len(sheets))
	for _, s := range sheets {
		buffer, chosen := s.choose(keep)
		if n += chosen; chosen > 0 {
			items = append(items, buffer)
		}
	}
	return items, n, nil
}

// encode returns the sheets of all there are. Sheets whose objects are the same as
// before are the ones of before.
func (r *roll[T]) encode(all []*T) ([]*sheet[T], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sheets := make([]*sheet[T], 0, len(r.sheets)+1)
	kept := make(map[*sheet[T]]bool, len(r.sheets))
	for len(all) > 0 {
		s := r.first[all[0]]
		if s == nil || len(all) < len(s.objects) || !slices.Equal(s.objects, all[:len(s.objects)]) {
			s = &sheet[T]{objects: slices.Clone(all[:r.span(all)])}
		}
		kept[s] = true
		sheets = append(sheets, s)
		all = all[len(s.objects):]
	}
	known := map[*T][]byte{} // items on sheets of which something has changed
	for _, old := range r.sheets {
		if kept[old] {
			continue
		}
		for i, object := range old.objects {
			known[object] = old.at(i)
		}
	}
	first := make(map[*T]*sheet[T], len(sheets))
	for _, s := range sheets {
		if s.buffer == nil {
			if err := r.fill(s, known); err != nil {
				return nil, err
			}
		}
		first[s.objects[0]] = s
	}
	r.sheets, r.first = sheets, first
	return sheets, nil
}

// span is how many of all go on one sheet. Who ends it says its ID, so that what comes
// and goes elsewhere moves no sheet's bounds.
func (r *roll[T]) span(all []*T) int {
	for i, object := range all[:min(len(all), maxSheetObjects)] {
		id := r.id(object)
		if len(id) > 1 && (hexDigit(id[len(id)-2])<<4|hexDigit(id[len(id)-1]))%sheetObjects == 0 {
			return i + 1
		}
	}
	return min(len(all), maxSheetObjects)
}

func hexDigit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// fill encodes the objects of a new sheet.
func (r *roll[T]) fill(s *sheet[T], known map[*T][]byte) error {
	items := make([][]byte, len(s.objects))
	s.ends = make([]int, len(s.objects))
	size := 0
	for i, object := range s.objects {
		raw, ok := known[object]
		if !ok {
			item, err := proto.Marshal(r.item(object))
			if err != nil {
				return fmt.Errorf("encode list item: %w", err)
			}
			raw = protowire.AppendBytes(protowire.AppendTag(nil, itemsField, protowire.BytesType), item)
		}
		items[i] = raw
		size += len(raw)
		s.ends[i] = size
	}
	s.wire = make([]byte, 0, size)
	for _, raw := range items {
		s.wire = append(s.wire, raw...)
	}
	s.buffer = mem.SliceBuffer(s.wire)
	return nil
}

// at is the item of one object.
func (s *sheet[T]) at(i int) []byte {
	from := 0
	if i > 0 {
		from = s.ends[i-1]
	}
	return s.wire[from:s.ends[i]]
}

// choose returns the items that keep chooses: without a copy when that is all of them.
func (s *sheet[T]) choose(keep func(*T) bool) (items mem.Buffer, n int) {
	if keep == nil {
		return s.buffer, len(s.objects)
	}
	chosen := make([]int, 0, maxSheetObjects)
	size := 0
	for i, object := range s.objects {
		if keep(object) {
			chosen, size = append(chosen, i), size+len(s.at(i))
		}
	}
	if len(chosen) == len(s.objects) {
		return s.buffer, len(chosen)
	}
	raw := make([]byte, 0, size)
	for _, i := range chosen {
		raw = append(raw, s.at(i)...)
	}
	return mem.SliceBuffer(raw), len(chosen)
}
