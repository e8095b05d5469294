package monitor

import "syscall"

// handler is something in the loop. ready is called when its descriptor may have
// something to do; it must not block and must cope with nothing being there.
type handler interface{ ready(events uint32) }

// loop waits for descriptors and for timers. The only blocking system call of a
// monitor is its epoll_wait, which package syscall makes in a way that tells the Go
// scheduler; done with RawSyscall it would be interrupted every 10 ms.
type loop struct {
	epfd   int
	slots  []slot // by descriptor
	events [32]syscall.EpollEvent
	timers []*timer
}

// slot is one descriptor's place in the loop. Its generation goes into the kernel's
// event and back: an event of a closed descriptor must not reach the next one of the
// same number.
type slot struct {
	handler    handler
	generation int32
}

// timer calls fire once at a moment of uptime; 0 is never.
type timer struct {
	at   int64
	fire func()
}

func (l *loop) open() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	l.epfd = fd
	return err
}

// watch adds fd, level-triggered, or changes what it is watched for. Hang-ups and
// errors are always reported.
func (l *loop) watch(fd int, events uint32, h handler) {
	for len(l.slots) <= fd {
		l.slots = append(l.slots, slot{})
	}
	s, op := &l.slots[fd], syscall.EPOLL_CTL_MOD
	if s.handler == nil {
		op = syscall.EPOLL_CTL_ADD
		s.generation++
	}
	s.handler = h
	event := syscall.EpollEvent{Events: events, Fd: int32(fd), Pad: s.generation}
	syscall.EpollCtl(l.epfd, op, fd, &event)
}

// unwatch must be called before fd is closed.
func (l *loop) unwatch(fd int) {
	if fd >= 0 && fd < len(l.slots) && l.slots[fd].handler != nil {
		l.slots[fd].handler = nil
		var none syscall.EpollEvent
		syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_DEL, fd, &none)
	}
}

// drop unwatches and closes.
func (l *loop) drop(fd *int) {
	l.unwatch(*fd)
	closeFD(fd)
}

// wait handles what is ready, waiting for at most limit milliseconds, -1 for no
// limit. It reports how many descriptors were ready, and whether a signal (a child
// that ended) cut the wait short.
func (l *loop) wait(limit int) (n int, interrupted bool) {
	n, err := syscall.EpollWait(l.epfd, l.events[:], l.untilTimer(limit))
	if err != nil {
		return 0, true
	}
	l.dispatch(l.events[:n])
	l.runTimers()
	return n, false
}

// dispatch handles events.
func (l *loop) dispatch(events []syscall.EpollEvent) {
	for i := range events {
		e := &events[i]
		if s := l.slots[e.Fd]; s.handler != nil && s.generation == e.Pad {
			s.handler.ready(e.Events)
		}
	}
}

func (l *loop) untilTimer(limit int) int {
	var clock int64
	for _, t := range l.timers {
		if t.at == 0 {
			continue
		}
		if clock == 0 {
			clock = uptime()
		}
		left := int(max(0, t.at-clock+999999) / 1e6)
		if limit < 0 || left < limit {
			limit = left
		}
	}
	return limit
}

func (l *loop) runTimers() {
	var clock int64
	for i := 0; i < len(l.timers); i++ {
		t := l.timers[i]
		if t.at == 0 {
			continue
		}
		if clock == 0 {
			clock = uptime()
		}
		if t.at <= clock {
			t.at = 0
			t.fire()
		}
	}
}

// set arms t to fire in the given number of milliseconds.
func (t *timer) set(ms int64) { t.at = uptime() + ms*1e6 }
