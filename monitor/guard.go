package monitor

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// guard keeps the monitor going while the file system of its log does not answer: frozen,
// or on a server that is away. Such a call cannot be interrupted, and its thread is lost
// until it returns. So a second goroutine stands by; it sleeps in the kernel, is not woken
// as long as calls return, and takes the loop over when one does not:
//
//	loop         … write(2) ─────────── waits for the disk ────────────► regains ► …
//	stand-by         └ 1 to 2 s ► takes over: exits, execs, attach, control ► stands by
//
// The handler that made the call is suspended in the middle; what it may have in hand,
// the log, the ledger and the read under way, is not touched meanwhile. The container's
// streams are read and, for the file, dropped and counted: its processes do not wait
// longer for a disk than that. The other sinks and attached clients get everything.
//
// Only one of the two ever runs: the stand-in works under turn, and the loop, once its
// call has returned and it finds itself replaced, waits for turn and ends the replacement.
// In the normal case a call costs two atomic stores and a look at the clock.
type guard struct {
	m     *monitor
	timer int   // a timerfd; -1 before there is a stand-by, noGuard when there cannot be one
	armed int64 // when it was last set, in nanoseconds of uptime; 0: it is not
	calls uint64
	// underWay is the number of the call under way, 0 for none, with taken when the loop
	// has been taken over.
	underWay atomic.Uint64

	turn    sync.Mutex // guards the monitor, while away
	away    bool       // the loop is in a call that does not return
	began   int64      // of the replacement, in nanoseconds of uptime
	events  [8]syscall.EpollEvent
	spare   []byte // scratch for the stand-in; the other is in the loop's hands
	reopens waiter // the Reopen request under way
	ended   [2]bool
	keep    bool // the ledger's state is behind
}

const (
	taken   = 1 << 63
	noGuard = -2
	// defaultStallAfter is how long one call may take unless the configuration says: it is
	// seen after that time for the first time and given up when it is seen again, in milliseconds.
	defaultStallAfter = 1000
	// rearmAfter is how often the timer is put off, in nanoseconds.
	rearmAfter = 250e6
	// standInWait bounds how long the stand-in waits before it looks whether it is still needed.
	standInWait = 100
)

// start makes the stand-by, at the first use of the log. It needs a second processor of the
// Go scheduler, for the first one stays with the call that does not return.
func (g *guard) start() {
	fd, _, e := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, syscall.O_CLOEXEC, 0)
	if e != 0 {
		complain("guard", e)
		g.timer = noGuard
		return
	}
	g.timer = int(fd)
	runtime.GOMAXPROCS(2)
	go g.standBy() // as long as the process
}

// set has the timer fire once in ms milliseconds; 0 is never.
func (g *guard) set(ms int64) {
	spec := [2]syscall.Timespec{{}, syscall.NsecToTimespec(ms * 1e6)}
	syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(g.timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

// patience is how long one call may take before it is looked at again, in milliseconds.
func (g *guard) patience() int64 {
	if ms := g.m.config.LogStall; ms > 0 {
		return int64(ms)
	}
	return defaultStallAfter
}

// stalled is for how long the log was given up, now included, in milliseconds.
func (g *guard) stalled() uint64 {
	ms := g.m.counts.LogStalledMillis
	if g.away {
		ms += uint64(uptime()-g.began) / 1e6
	}
	return ms
}

// Enter is called before a system call that may wait for the log's file system.
func (g *guard) Enter() {
	if g.timer == -1 {
		g.start()
	}
	if g.timer < 0 {
		return
	}
	if at := uptime(); g.armed == 0 || at-g.armed >= rearmAfter {
		g.armed = at
		g.set(g.patience())
	}
	g.calls++
	g.underWay.Store(g.calls)
}

// Leave is called after it. It returns when the monitor is the caller's again.
func (g *guard) Leave() {
	if g.timer < 0 || g.underWay.CompareAndSwap(g.calls, 0) {
		return
	}
	for !g.turn.TryLock() { // waiting in the Go scheduler could end on another thread
		pause := syscall.NsecToTimespec(200e3)
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
	}
	g.away, g.armed = false, 0
	g.m.counts.LogStalledMillis += uint64(uptime()-g.began) / 1e6
	g.m.counts.LogStalledSince = 0
	g.m.control.tell(&wire.Message{Kind: wire.Stalled})
	g.underWay.Store(0)
	complain("log", fault("monitor.log", launch.KindInternal, "the file system answers again"))
	g.turn.Unlock()
}

// rest is called when nothing happens any more: nobody shall be woken.
func (g *guard) rest() {
	if g.armed != 0 {
		g.armed = 0
		g.set(0)
	}
}

// standBy waits for a call that does not return.
func (g *guard) standBy() {
	var seen uint64
	for {
		var expirations [8]byte
		syscall.Read(g.timer, expirations[:])
		call := g.underWay.Load()
		if call != 0 && call == seen && g.underWay.CompareAndSwap(call, call|taken) {
			g.standIn()
			call = 0
		}
		if seen = call; call != 0 {
			g.set(g.patience())
		}
	}
}

// standIn is the loop until the call returns.
func (g *guard) standIn() {
	m := g.m
	g.turn.Lock()
	g.away, g.began = true, uptime()
	m.counts.LogStalls++
	m.counts.LogStalledSince = uint64(now())
	if g.spare == nil {
		g.spare = mapBuffer(scratchSize)
	}
	m.scratch, g.spare = g.spare, m.scratch
	complain("log", g.refusal())
	m.control.tell(&wire.Message{Kind: wire.Stalled})
	w := g.reopens
	g.reopens = waiter{}
	w.conn.reply(w.id, g.refusal(), nil)
	for !m.done {
		m.init.settle() // the loop may have been on its way to the exit record
		limit := m.untilTimer(standInWait)
		g.turn.Unlock()
		n, err := syscall.EpollWait(m.epfd, g.events[:], limit)
		g.turn.Lock()
		if !g.away {
			g.turn.Unlock()
			return
		}
		if err == nil {
			m.dispatch(g.events[:n])
			m.runTimers()
		}
		m.procs.sweep()
		m.report.flush()
	}
	m.finish()
	syscall.Exit(0)
}

// refusal is the answer to what needs the log now.
func (g *guard) refusal() *launch.Error {
	return fault("monitor.log", launch.KindInternal, "the file system of "+g.m.config.LogPath+" does not answer")
}

// catchUp is called by the loop between two turns: what the stand-in left is done.
func (g *guard) catchUp() {
	m := g.m
	if m.log == nil || !m.log.Behind() && !g.keep && g.ended == [2]bool{} {
		return
	}
	m.ledger.begin(0, 0)
	m.log.CatchUp(now())
	for i := range g.ended {
		if g.ended[i] {
			g.ended[i] = false
			m.log.End(m.streams[i].lines, now())
		}
	}
	m.ledger.done()
	if g.keep {
		g.keep = false
		m.ledger.keep()
	}
}
