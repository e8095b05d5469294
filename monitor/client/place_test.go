package client

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The first thread never ends: it would leave the daemon in a pod's cgroup.
func TestNothingIsPlacedByTheFirstThread(t *testing.T) {
	const turns = 400
	ids := make(chan int, turns)
	for range turns {
		go onThread(func() { ids <- unix.Gettid() }) // received below
	}
	for range turns {
		if id := <-ids; id == unix.Getpid() {
			t.Fatal("it was the first thread")
		}
	}
}
