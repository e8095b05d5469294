package cri

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

// wireCache keeps the items of a list as the wire has them. Of what an item shows only
// the state changes in an object's life, and encoding thousands of unchanged items
// each second is nearly all that a list costs. An answer is made of them by way of its
// unknown fields, which protobuf sends as they are; to its receiver they are known.
// The zero value is ready.
type wireCache struct {
	mu    sync.Mutex // guards the fields below
	items map[pod.ID]wireItem
	most  int // so many items make shed look for those of objects that are gone
}

type wireItem struct {
	state int32
	raw   []byte // tag, length and message
}

// itemsField is the number of the repeated field in both ListContainersResponse and
// ListPodSandboxResponse.
const itemsField protowire.Number = 1

// append adds the item of an object in a state to the answer's bytes; describe makes
// one that is not known.
func (w *wireCache) append(answer []byte, id pod.ID, state int32, describe func() proto.Message) ([]byte, error) {
	w.mu.Lock()
	item, known := w.items[id]
	w.mu.Unlock()
	if !known || item.state != state {
		raw, err := proto.Marshal(describe())
		if err != nil {
			return nil, fmt.Errorf("encode list item %s: %w", id.Short(), err)
		}
		item = wireItem{state, protowire.AppendBytes(protowire.AppendTag(nil, itemsField, protowire.BytesType), raw)}
		w.mu.Lock()
		if w.items == nil {
			w.items = map[pod.ID]wireItem{}
		}
		w.items[id] = item
		w.mu.Unlock()
	}
	return append(answer, item.raw...), nil
}

// shed forgets objects that are gone, each time when twice as many are kept as were
// there the last time.
func (w *wireCache) shed(exists func(pod.ID) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.items) <= max(w.most, 64) {
		return
	}
	for id := range w.items {
		if !exists(id) {
			delete(w.items, id)
		}
	}
	w.most = 2 * len(w.items)
}

// answer puts encoded items into an empty response.
func answer[T proto.Message](response T, items []byte) T {
	response.ProtoReflect().SetUnknown(items)
	return response
}
