package main

import (
	"os"
	"runtime/debug"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

const (
	// restAfter is how long nothing has happened to any pod when the daemon rests.
	restAfter = 2 * time.Second
	// restingPercent is what the heap may grow between two collections meanwhile, in
	// percent of what is in use, and workingPercent otherwise, Go's own default.
	restingPercent = 30
	workingPercent = 100
)

// rest keeps memory small while nothing happens to pods, which is most of a node's time:
// a collector that runs half as often leaves as much garbage as there is data, and what
// a storm of starts left behind would stay. Those who list and scrape meanwhile make
// little, so that small steps cost little; while pods come and go the collector has its
// usual room. An administrator's GOGC is left alone.
func (d *daemon) rest() {
	if os.Getenv("GOGC") != "" {
		return
	}
	events := d.pods.Subscribe(4096)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer debug.SetGCPercent(workingPercent)
		resting(events.Events(), restAfter, func(rest bool) {
			if !rest {
				debug.SetGCPercent(workingPercent)
				return
			}
			debug.SetGCPercent(restingPercent)
			debug.FreeOSMemory()
		})
	}()
	d.stops.add(func() { events.Close(); <-done })
}

// resting calls change whenever rest begins, after a time without events, and ends, until
// events is closed.
func resting(events <-chan *pod.Event, after time.Duration, change func(rest bool)) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	for rests := false; ; {
		select {
		case _, open := <-events:
			if !open {
				return
			}
			if rests {
				rests = false
				change(false)
			}
			timer.Reset(after)
		case <-timer.C:
			rests = true
			change(true)
		}
	}
}
