package cri

import (
	"fmt"
	"maps"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// wireCache keeps the items of a list as the wire has them: encoding thousands of
// unchanged items each second is nearly all that a list costs. Objects are values that
// do not change, so that an item is its object's for as long as that is there; one in
// another state is another value. An answer is made of items by way of its unknown
// fields, which protobuf sends as they are; to its receiver they are known. The zero
// value is ready.
type wireCache[T any] struct {
	mu    sync.RWMutex // guards items
	items map[*T][]byte
}

// itemsField is the number of the repeated field in both ListContainersResponse and
// ListPodSandboxResponse.
const itemsField protowire.Number = 1

// list encodes the items of some objects of all there are; describe makes one that is
// not known.
func (w *wireCache[T]) list(some, all []*T, describe func(*T) proto.Message) ([]byte, error) {
	raws := make([][]byte, len(some))
	var made map[*T][]byte
	size := 0
	w.mu.RLock()
	known := len(w.items)
	for i, object := range some {
		raws[i] = w.items[object]
		size += len(raws[i])
	}
	w.mu.RUnlock()
	for i, object := range some {
		if raws[i] != nil {
			continue
		}
		item, err := proto.Marshal(describe(object))
		if err != nil {
			return nil, fmt.Errorf("encode list item: %w", err)
		}
		raws[i] = protowire.AppendBytes(protowire.AppendTag(nil, itemsField, protowire.BytesType), item)
		size += len(raws[i])
		if made == nil {
			made = map[*T][]byte{}
		}
		made[object] = raws[i]
	}
	if made != nil {
		w.mu.Lock()
		if w.items == nil {
			w.items = map[*T][]byte{}
		}
		maps.Copy(w.items, made)
		known = len(w.items)
		w.mu.Unlock()
	}
	if known > len(all)+len(all)/4+64 {
		w.shed(all)
	}
	answer := make([]byte, 0, size)
	for _, raw := range raws {
		answer = append(answer, raw...)
	}
	return answer, nil
}

// shed forgets the items of what is gone.
func (w *wireCache[T]) shed(all []*T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	items := make(map[*T][]byte, len(all))
	for _, object := range all {
		if raw, known := w.items[object]; known {
			items[object] = raw
		}
	}
	w.items = items
}

// answer puts encoded items into an empty response.
func answer[T proto.Message](response T, items []byte) T {
	response.ProtoReflect().SetUnknown(items)
	return response
}
