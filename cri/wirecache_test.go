package cri

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestCachedItemsAreWhatTheReceiverDecodes(t *testing.T) {
	var cache wireCache
	made := 0
	list := func(states ...runtime.ContainerState) *runtime.ListContainersResponse {
		t.Helper()
		var items []byte
		for i, state := range states {
			var err error
			items, err = cache.append(items, pod.ID(fmt.Sprint("c", i)), int32(state), func() proto.Message {
				made++
				return &runtime.Container{Id: fmt.Sprint("c", i), State: state, Labels: map[string]string{"a": "b"}}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		raw, err := proto.Marshal(answer(&runtime.ListContainersResponse{}, items))
		if err != nil {
			t.Fatal(err)
		}
		received := &runtime.ListContainersResponse{}
		if err := proto.Unmarshal(raw, received); err != nil {
			t.Fatal(err)
		}
		return received
	}
	const created, running = runtime.ContainerState_CONTAINER_CREATED, runtime.ContainerState_CONTAINER_RUNNING
	list(created, created)
	got := list(created, running).GetContainers()
	if len(got) != 2 || got[0].Id != "c0" || got[0].State != created || got[1].State != running || got[1].Labels["a"] != "b" {
		t.Errorf("received %v", got)
	}
	if made != 3 {
		t.Errorf("%d items were encoded, want one for each of three states", made)
	}
	if got := list().GetContainers(); len(got) != 0 {
		t.Errorf("an empty list has %v", got)
	}
	for i := range 1000 {
		if _, err := cache.append(nil, pod.ID(fmt.Sprint("gone", i)), 0, func() proto.Message { return &runtime.Container{} }); err != nil {
			t.Fatal(err)
		}
	}
	cache.shed(func(id pod.ID) bool { return id == "c0" || id == "c1" })
	if len(cache.items) != 2 {
		t.Errorf("%d items are kept of two objects", len(cache.items))
	}
}
