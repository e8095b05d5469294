package events

import (
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestReaderThatComesBackReceivesWhatItMissedFirst(t *testing.T) {
	h := NewHub()
	h.Publish(pod.Event{Kind: "before any restart"}, nil)
	h.Remember([]pod.Event{{Kind: "record"}}, time.Now())
	h.Publish(pod.Event{Kind: "recovery"}, nil)
	h.Publish(pod.Event{Kind: pod.ContainerOOM}, nil) // no change of state, so nothing to catch up on
	again, plain := h.SubscribeReplay(1), h.Subscribe(1)
	h.Publish(pod.Event{Kind: "new"}, nil)
	again.Close()
	plain.Close()
	for name, tc := range map[string]struct {
		s    *Subscription
		want []pod.EventKind
	}{"replay": {again, []pod.EventKind{"record", "recovery", "new"}}, "plain": {plain, []pod.EventKind{"new"}}} {
		var last uint64
		for i := 0; ; i++ {
			e, open := <-tc.s.Events()
			if !open {
				if i != len(tc.want) {
					t.Errorf("%s: %d events, want %v", name, i, tc.want)
				}
				break
			}
			if i >= len(tc.want) || e.Kind != tc.want[i] || e.Seq <= last {
				t.Errorf("%s: event %d is %s with number %d after %d", name, i, e.Kind, e.Seq, last)
			}
			last = e.Seq
		}
	}
}

func TestPastIsBoundedAndEnds(t *testing.T) {
	var p past
	start := time.Now()
	p.note(&pod.Event{Seq: 1}, start)
	if got := p.recall(start); len(got) != 0 {
		t.Errorf("%d events are remembered before the daemon has begun to", len(got))
	}
	p.open(start)
	for seq := range uint64(5 * ReplayMost) {
		p.note(&pod.Event{Seq: seq}, start)
	}
	got := p.recall(start)
	if len(got) > ReplayMost || len(got) < ReplayMost/2 || got[len(got)-1].Seq != 5*ReplayMost-1 {
		t.Errorf("%d events are remembered, the last number %d", len(got), got[len(got)-1].Seq)
	}
	if got := p.recall(start.Add(ReplayFor + time.Second)); got != nil {
		t.Errorf("%d events are remembered after the time for it", len(got))
	}
}
