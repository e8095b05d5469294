package cri

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestCachedItemsAreWhatTheReceiverDecodes(t *testing.T) {
	type object struct {
		id    string
		state runtime.ContainerState
	}
	var cache wireCache[object]
	made := 0
	list := func(some, all []*object) []*runtime.Container {
		t.Helper()
		items, err := cache.list(some, all, func(o *object) proto.Message {
			made++
			return &runtime.Container{Id: o.id, State: o.state, Labels: map[string]string{"a": "b"}}
		})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(answer(&runtime.ListContainersResponse{}, items))
		if err != nil {
			t.Fatal(err)
		}
		received := &runtime.ListContainersResponse{}
		if err := proto.Unmarshal(raw, received); err != nil {
			t.Fatal(err)
		}
		return received.GetContainers()
	}
	const created, running = runtime.ContainerState_CONTAINER_CREATED, runtime.ContainerState_CONTAINER_RUNNING
	all := []*object{{"c0", created}, {"c1", created}}
	list(all, all)
	all[1] = &object{"c1", running}
	got := list(all, all)
	if len(got) != 2 || got[0].Id != "c0" || got[0].State != created || got[1].State != running || got[1].Labels["a"] != "b" {
		t.Errorf("received %v", got)
	}
	if got := list(all[1:], all); len(got) != 1 || got[0].Id != "c1" {
		t.Errorf("one of two: %v", got)
	}
	if made != 3 {
		t.Errorf("%d items were encoded, want one for each of three states", made)
	}
	if got := list(nil, all); len(got) != 0 {
		t.Errorf("an empty list has %v", got)
	}
	for i := range 1000 {
		gone := &object{id: fmt.Sprint("gone", i)}
		list([]*object{gone}, append([]*object{gone}, all...))
	}
	if len(cache.items) > 100 {
		t.Errorf("%d items are kept of two objects", len(cache.items))
	}
	before := made
	if list(all, all); made != before {
		t.Errorf("%d items of what is still there were forgotten", made-before)
	}
}
