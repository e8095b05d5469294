package events

import (
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestSlowSubscriberIsCutOffAndDelaysNobody(t *testing.T) {
	h := NewHub()
	slow, quick := h.Subscribe(2), h.Subscribe(100)
	for range 10 {
		h.Publish(pod.Event{Kind: pod.SandboxReady}, nil)
	}
	var last uint64
	for range 10 {
		e := <-quick.Events()
		if e.Seq != last+1 {
			t.Fatalf("event %d follows %d", e.Seq, last)
		}
		last = e.Seq
	}
	received := 0
	for range slow.Events() {
		received++
	}
	if received != 2 || !slow.Lost() {
		t.Errorf("slow subscriber received %d events, lost %v; want its buffer of 2, then the end", received, slow.Lost())
	}
	quick.Close()
	quick.Close()
	if _, open := <-quick.Events(); open || quick.Lost() {
		t.Error("a closed subscription must end without being called lost")
	}
}

// Each change of state, with the three readers a daemon has: CRI, telemetry, history.
func BenchmarkPublish(b *testing.B) {
	h := NewHub()
	var readers []*Subscription
	for range 3 {
		readers = append(readers, h.Subscribe(1))
	}
	c := pod.Container{ID: pod.NewID()}
	b.ReportAllocs()
	for b.Loop() {
		h.Publish(pod.Event{Kind: pod.ContainerStarted, Container: &c}, nil)
		for _, r := range readers {
			<-r.Events()
		}
	}
}
