package lifecycle

import (
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/events"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Two containers of a pod that change at one time: whoever receives the events in order
// never sees one of them go back.
func TestLaterEventNeverShowsAnOlderPod(t *testing.T) {
	m := &Manager{index: newIndex(), hub: events.NewHub()}
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
	reader := m.hub.Subscribe(rounds * len(entries))
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
