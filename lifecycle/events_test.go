package lifecycle

import (
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestSlowSubscriberIsCutOffAndDelaysNobody(t *testing.T) {
	h := newHub()
	slow, quick := h.subscribe(2), h.subscribe(100)
	for range 10 {
		h.publish(pod.Event{Kind: pod.SandboxReady}, nil)
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

// Two containers of a pod that change at one time: whoever receives the events in order
// never sees one of them go back.
func TestLaterEventNeverShowsAnOlderPod(t *testing.T) {
	m := &Manager{index: newIndex(), hub: newHub()}
	store, err := pod.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m.store = store
	sb := pod.Sandbox{ID: pod.NewID(), State: pod.Ready}
	m.index.addSandbox(sb)
	const rounds = 3000
	var entries []*containerEntry
	for range 4 {
		entries = append(entries, m.index.addContainer(pod.Container{ID: pod.NewID(), SandboxID: sb.ID, State: pod.Created}))
	}
	reader := m.hub.subscribe(rounds * len(entries))
	var writers sync.WaitGroup
	for _, e := range entries {
		writers.Go(func() {
			for i := range rounds {
				e.door.Lock()
				next := *e.value.Load()
				next.FinishedAt = time.Unix(int64(i), 0)
				e.value.Store(&next)
				m.publishContainer(pod.ContainerStarted, next, pod.Created)
				e.door.Unlock()
			}
		})
	}
	go func() { writers.Wait(); reader.Close() }() // the loop below waits for it
	seen, last := map[pod.ID]time.Time{}, time.Time{}
	for e := range reader.Events() {
		if e.Time.Before(last) {
			t.Fatalf("event %d is older than the one before", e.Seq)
		}
		last = e.Time
		if len(e.Siblings) != len(entries) || e.Sandbox.ID != sb.ID {
			t.Fatalf("event %d shows %d containers of %q", e.Seq, len(e.Siblings), e.Sandbox.ID)
		}
		for _, c := range e.Siblings {
			if c.FinishedAt.Before(seen[c.ID]) {
				t.Fatalf("event %d shows a container as it was at %v after one that showed it at %v", e.Seq, c.FinishedAt, seen[c.ID])
			}
			seen[c.ID] = c.FinishedAt
		}
	}
}

// Each change of state, with the three readers a daemon has: CRI, telemetry, history.
func BenchmarkPublish(b *testing.B) {
	h := newHub()
	var readers []*Subscription
	for range 3 {
		readers = append(readers, h.subscribe(1))
	}
	c := pod.Container{ID: pod.NewID()}
	b.ReportAllocs()
	for b.Loop() {
		h.publish(pod.Event{Kind: pod.ContainerStarted, Container: &c}, nil)
		for _, r := range readers {
			<-r.Events()
		}
	}
}
