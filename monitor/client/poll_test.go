package client

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long something may take that happens at once on an idle machine.
const patience = 30 * time.Second

func TestErrandIsNeverDoneTwiceAtATimeAndAlwaysAfterTheLastAsk(t *testing.T) {
	const askers, asks = 8, 2000
	var now, asked, seen int
	var mu sync.Mutex // guards asked, and seen, which is what the errand found
	idle := make(chan struct{}, 1)
	e := errand{do: func() {
		if now++; now != 1 { // the race detector sees it as well
			t.Error("the errand is done twice at a time")
		}
		mu.Lock()
		seen = asked
		mu.Unlock()
		now--
		select {
		case idle <- struct{}{}:
		default:
		}
	}}
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for range asks {
				mu.Lock()
				asked++
				mu.Unlock()
				e.ask()
			}
		})
	}
	wg.Wait()
	for late := time.After(patience); ; {
		mu.Lock()
		done := seen == askers*asks
		mu.Unlock()
		if done {
			return
		}
		select {
		case <-idle:
		case <-late:
			t.Fatalf("the errand was not done after the last of %d asks", askers*asks)
		}
	}
}

// pollPipe is a pipe whose reading end is watched: what it says comes out of heard.
func pollPipe(t *testing.T, p *poller) (write func(string), heard chan string, end func()) {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	heard = make(chan string)
	e := &errand{do: func() {
		var buf [64]byte
		for {
			n, err := unix.Read(ends[0], buf[:])
			if n <= 0 || err != nil {
				return
			}
			heard <- string(buf[:n])
		}
	}}
	if err := p.watch(ends[0], e); err != nil {
		t.Fatal(err)
	}
	write = func(s string) {
		if _, err := unix.Write(ends[1], []byte(s)); err != nil {
			t.Error(err)
		}
	}
	return write, heard, func() {
		p.forget(ends[0])
		p.forget(ends[0])
		unix.Close(ends[0])
		unix.Close(ends[1])
	}
}

func TestPollerTellsOfEachDescriptorWhileAnotherIsHeldUp(t *testing.T) {
	var p poller
	held, stuck, endHeld := pollPipe(t, &p)
	held("nobody takes this yet") // its errand waits in the middle
	for range 3 {                 // descriptors' numbers are used again
		write, heard, end := pollPipe(t, &p)
		for _, word := range []string{"one", "two"} {
			write(word)
			select {
			case got := <-heard:
				if got != word {
					t.Errorf("heard %q, want %q", got, word)
				}
			case <-time.After(patience):
				t.Fatalf("%q was not heard", word)
			}
		}
		end()
	}
	<-stuck
	endHeld()
	if p.epoll != nil {
		t.Error("the poller goes on without anything to wait for")
	}
	write, heard, end := pollPipe(t, &p) // it begins again
	defer end()
	write("again")
	if got := <-heard; got != "again" {
		t.Errorf("heard %q", got)
	}
}

func TestPollerRefusesWhatCannotBeWaitedFor(t *testing.T) {
	var p poller
	if err := p.watch(-1, &errand{}); err == nil {
		t.Error("a descriptor that is none is watched")
	}
	if p.epoll != nil {
		t.Error("the poller goes on without anything to wait for")
	}
}
