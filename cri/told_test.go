package cri

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestEventIsEncodedOnceForAllItsReaders(t *testing.T) {
	var all told
	e := &pod.Event{Seq: 7, Time: time.Unix(5, 0), Kind: pod.SandboxReady, Sandbox: pod.Sandbox{
		ID: pod.NewID(), State: pod.Ready, CreatedAt: time.Unix(4, 0),
		Config: pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{Metadata: &runtime.PodSandboxMetadata{Name: "p", Namespace: "n", Uid: "u"}}},
	}}
	got := make([][]ready, 8)
	var readers sync.WaitGroup
	for i := range got {
		readers.Go(func() {
			var err error
			if got[i], err = all.messages(e); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	kinds := eventTypes[e.Kind]
	for i := range got {
		if len(got[i]) != len(kinds) {
			t.Fatalf("reader %d gets %d messages, want %d", i, len(got[i]), len(kinds))
		}
		for j, kind := range kinds {
			raw := got[i][j].bytes[0].ReadOnlyData()
			if first := got[0][j].bytes[0].ReadOnlyData(); &raw[0] != &first[0] {
				t.Errorf("reader %d has an encoding of its own", i)
			}
			var decoded runtime.ContainerEventResponse
			if err := proto.Unmarshal(raw, &decoded); err != nil {
				t.Fatal(err)
			}
			if want := event(e, kind); !proto.Equal(&decoded, want) {
				t.Errorf("a reader decodes %v, want %v", &decoded, want)
			}
		}
	}
	for i := range len(all.last) { // as many others: the first is forgotten, and encoded again
		if _, err := all.messages(&pod.Event{Seq: uint64(i), Kind: pod.ContainerExited, Container: &pod.Container{ID: pod.NewID()}}); err != nil {
			t.Fatal(err)
		}
	}
	again, err := all.messages(e)
	if err != nil || len(again) != len(kinds) {
		t.Fatalf("a late reader gets %d messages, %v", len(again), err)
	}
	if &again[0].bytes[0].ReadOnlyData()[0] == &got[0][0].bytes[0].ReadOnlyData()[0] {
		t.Error("more events are kept than there is room for")
	}
	if none, err := all.messages(&pod.Event{Seq: 8, Kind: pod.ContainerOOM}); err != nil || len(none) != 0 {
		t.Errorf("an event without a word in CRI is sent as %v, %v", none, err)
	}
}
