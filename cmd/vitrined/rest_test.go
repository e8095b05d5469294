package main

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestRestBeginsOnceNothingHappensAndEndsWithTheNextEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan *pod.Event)
		done := make(chan struct{})
		begun := time.Now()
		var changes []string
		go func() {
			defer close(done)
			resting(events, 2*time.Second, func(rest bool) { changes = append(changes, fmt.Sprint(time.Since(begun), " ", rest)) })
		}()
		time.Sleep(5 * time.Second) // it starts, and nothing happens
		for range 10 {
			events <- &pod.Event{}
			time.Sleep(time.Second) // a storm
		}
		time.Sleep(5 * time.Second)
		close(events)
		<-done
		if want := []string{"2s true", "5s false", "16s true"}; !slices.Equal(changes, want) {
			t.Errorf("%q, want %q", changes, want)
		}
	})
}
