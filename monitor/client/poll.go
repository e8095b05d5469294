package client

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A daemon has two descriptors for each container, its monitor's socket and pidfd, which
// have something to say once in minutes. A goroutine parked at each keeps a stack of 4 KiB
// for that. So one goroutine waits for all of them, and what is to be done about one that
// has something is an errand, whose goroutine ends with it.

// errand is something to do again whenever it is asked for: never twice at a time, and by a
// goroutine that nobody waits for and that ends when it has begun after the last ask. An
// errand holds up no other.
type errand struct {
	do    func()
	asked atomic.Int32 // since it was done for the last time; 0: no goroutine
}

func (e *errand) ask() {
	if e.asked.Add(1) == 1 {
		go e.run()
	}
}

func (e *errand) run() {
	for {
		asked := e.asked.Load()
		e.do()
		if e.asked.CompareAndSwap(asked, 0) {
			return
		}
	}
}

// poller waits for many descriptors by one goroutine, which lives while there are any: by
// an epoll instance, which is itself a descriptor that Go's poller waits for. Its zero value
// is ready.
type poller struct {
	mu      sync.Mutex // guards what follows
	errands map[int32]*errand
	epoll   *os.File // nil without errands
	fd      int      // epoll's
}

// descriptors are those of the process, as Go's own poller is the process's.
var descriptors poller

// watch has e asked for when there is something new to read from fd, and now if there is
// something already (EPOLLET). Whoever closes fd calls forget before.
func (p *poller) watch(fd int, e *errand) error {
	p.mu.Lock()
	if p.epoll == nil {
		if err := p.begin(); err != nil {
			p.mu.Unlock()
			return fmt.Errorf("epoll_create1: %w", err)
		}
	}
	p.errands[int32(fd)] = e
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event)
	p.mu.Unlock()
	if err != nil {
		p.forget(fd)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// forget ends watch; again, it changes nothing. An errand that was asked for is still done.
func (p *poller) forget(fd int) {
	p.mu.Lock()
	var idle *os.File
	if p.errands[int32(fd)] != nil {
		unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
		delete(p.errands, int32(fd))
		if len(p.errands) == 0 {
			idle, p.epoll = p.epoll, nil
		}
	}
	p.mu.Unlock()
	if idle != nil {
		idle.Close() // without the lock: it waits until run has noticed
	}
}

// begin is called with the lock.
func (p *poller) begin() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	unix.SetNonblock(fd, true) // os.NewFile gives Go's poller nothing else
	p.fd, p.epoll, p.errands = fd, os.NewFile(uintptr(fd), "epoll"), map[int32]*errand{}
	go p.run(p.epoll) // until it is closed
	return nil
}

func (p *poller) run(epoll *os.File) {
	raw, err := epoll.SyscallConn()
	if err != nil {
		return
	}
	var ready [64]unix.EpollEvent
	raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), ready[:], 0)
			if n <= 0 && err != unix.EINTR {
				return false // until there is something again
			}
			p.mu.Lock()
			for i := range max(n, 0) {
				if e := p.errands[ready[i].Fd]; e != nil { // nil: forgotten meanwhile
					e.ask()
				}
			}
			p.mu.Unlock()
		}
	})
}
