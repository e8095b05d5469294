package cri

import (
	"fmt"
	"sync"
	"weak"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// told has the last events as they are sent, so that an event is encoded once and not by
// each of its readers, all at the same moment. A reader who is further behind encodes an
// event again. The zero value has none.
type told struct {
	mu   sync.Mutex // guards the rest
	last [32]*telling
	next int
}

// telling is one event as CRI tells it.
type telling struct {
	of       weak.Pointer[pod.Event] // all readers get the same one; it is not kept for this
	encode   sync.Once
	messages []ready
	err      error
}

// messages are what is sent of an event: none for those that CRI has no word for.
func (t *told) messages(e *pod.Event) ([]ready, error) {
	if len(eventTypes[e.Kind]) == 0 {
		return nil, nil
	}
	one := t.telling(weak.Make(e))
	one.encode.Do(func() {
		for _, kind := range eventTypes[e.Kind] {
			raw, err := proto.Marshal(event(e, kind))
			if err != nil {
				one.err = fmt.Errorf("encode container event: %w", err)
				return
			}
			one.messages = append(one.messages, ready{of: &runtime.ContainerEventResponse{}, bytes: mem.BufferSlice{mem.SliceBuffer(raw)}})
		}
	})
	return one.messages, one.err
}

func (t *told) telling(of weak.Pointer[pod.Event]) *telling {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.last {
		if one != nil && one.of == of {
			return one
		}
	}
	one := &telling{of: of}
	t.last[t.next] = one
	t.next = (t.next + 1) % len(t.last)
	return one
}
