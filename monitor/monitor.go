package monitor

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	_ "github.com/vitrine-runtime/vitrine/monitor/stack" // before anything else
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// scratchSize is the size of one read; larger ones are slower (measured).
const scratchSize = 64 << 10

// draftSize is the size of what is encoded at once, mostly; more goes to the heap.
const draftSize = 128 << 10

// idleAfter is how long after the last output the buffers are given back and an
// unended line is written, in milliseconds.
const idleAfter = 250

// reapEvery is how often children without an owner are looked for when there may be
// some whose signals do not interrupt the loop, in milliseconds.
const reapEvery = 1000

// Main runs a monitor on the socket that the daemon left it, and returns the process's
// exit code.
// version names the build, for people.
func Main(version string) int {
	args := arguments()
	build = version
	m := &self
	m.prime()
	if len(args) > 1 && args[1] == tryArgument {
		return m.try()
	}
	var err error
	switch {
	case len(args) > 3 && args[2] == resumeArgument:
		err = m.resume(int(number(args[3])))
	case len(args) > 3 && args[2] == adoptArgument:
		err = m.adopt(args[1], args[3])
	case len(args) > 2 && args[2] == wire.TrusteeArgument:
		err = m.trust.open(args[1])
	default:
		err = m.open()
	}
	if err != nil {
		complain("begin", err)
		return 1
	}
	m.run()
	return 0
}

// build is the version that Main was told.
var build string

// monitor is everything one process knows.
type monitor struct {
	loop
	config  wire.Config
	scratch []byte // scratchSize, for what is handled at once
	draft   []byte // empty, with room for draftSize: where states and spans are encoded
	log     *logfile.Writer
	streams [2]stream
	stdin   stdin
	tty     tty
	init    container
	procs   reaper
	control socket
	clients []*client
	execs   []*session
	report  reporter
	upgrade upgrade
	spare   spare
	ledger  ledger
	guard   guard
	asked   uint32 // the flags of the Create request
	counts  wire.Counters
	active  bool     // something happened since the buffers were given back
	environ []string // the launcher's
	// collectAt is the number of exec sessions at which the heap was last made small.
	collectAt uint64
	posts     uint64 // of this program image
	sinks     sinks
	trust     trustee
	mourning  int // KillSessions that are not answered yet
	notify    notifier
	ending    bool // a Shutdown is under way
	done      bool
	room      struct { // where the tables begin
		slots  [32]slot
		timers [8]*timer
		owned  [4]owned
		conns  [4]*conn
		fds    [32]int
		log    logfile.Writer
	}
}

// arguments are those of the process. Package os would know them, at a price.
func arguments() []string {
	return strings.Split(readSmall(newPath("/proc/self/cmdline"), pad), "\x00")
}

// self is the monitor of this process. It stands in static memory with the beginnings
// of its tables: the Go heap takes two pages for each size of object that is in use.
var self monitor

func (m *monitor) prime() {
	m.scratch, m.draft = mapBuffer(scratchSize), mapBuffer(draftSize)[:0]
	m.slots, m.timers = m.room.slots[:0], m.room.timers[:0]
	m.streams = [2]stream{{m: m, fd: -1, lines: logfile.NewStream(false)}, {m: m, fd: -1, lines: logfile.NewStream(true), stderr: true}}
	m.stdin = stdin{m: m, fd: -1}
	m.tty = tty{m: m, master: -1, peer: -1}
	m.init = container{m: m, pidfd: -1, fifo: -1, verdict: -1, words: tail{m: m, fd: -1}}
	m.procs = reaper{m: m, owned: m.room.owned[:0]}
	m.control = socket{m: m, listener: -1, packet: mapBuffer(wire.MaxPacket)[:0], conns: m.room.conns[:0]}
	m.report.init(m)
	m.sinks.init(m)
	m.spare = spare{m: m, sock: -1}
	m.upgrade = upgrade{m: m, program: -1, answer: -1}
	m.ledger = ledger{m: m, fd: -1}
	m.trust.m = m
	m.notify.m, m.notify.socket = m, -1
	m.guard.m, m.guard.timer = m, -1
}

func (m *monitor) open() error {
	if err := m.settle(); err != nil {
		return err
	}
	syscall.CloseOnExec(wire.SocketFD)
	return m.control.first(wire.SocketFD)
}

// settle prepares the process itself.
func (m *monitor) settle() error {
	ignoreSignals()
	if err := m.loop.open(); err != nil {
		return err
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); e != 0 {
		return e
	}
	return nil
}

// run is the loop. A monitor without a container, and a trustee without wards, ends when
// nobody is connected any more.
func (m *monitor) run() {
	for !m.done {
		limit := -1
		if m.active {
			limit = idleAfter
		} else if m.init.sharesPIDs && !onFirstThread() {
			limit = reapEvery
		}
		n, interrupted := m.wait(limit)
		if interrupted || m.procs.pending {
			m.procs.sweep()
		}
		if n == 0 && !interrupted && limit >= 0 {
			m.idle()
		}
		m.guard.catchUp()
		m.trust.turn()
		m.report.flush()
		m.upgrade.turn()
		m.renew(false)
		if m.init.never() && len(m.control.conns) == 0 && m.trust.empty() {
			m.done = true
		}
	}
	m.finish()
}

// finish brings away what waits.
func (m *monitor) finish() {
	m.sinks.close()
	m.report.close()
}

// idle writes what waits for a line end and gives the buffers back.
func (m *monitor) idle() {
	m.active = false
	if m.log != nil {
		at := now()
		for i := range m.streams {
			m.ledger.begin(i, 0)
			m.log.FlushPartial(m.streams[i].lines, at)
			m.ledger.done()
		}
		m.log.Release(m.streams[0].lines, m.streams[1].lines)
		m.ledger.release()
	}
	logfile.Release(m.scratch)
	logfile.Release(m.draft[:cap(m.draft)])
	logfile.Release(pad)
	logfile.Release(m.control.packet[:cap(m.control.packet)])
	for i := range m.streams {
		m.streams[i].size(false)
	}
	m.stdin.release()
	m.guard.rest()
	m.report.release()
	m.sinks.quiet()
	m.procs.sweep() // a signal that came between two waits is noticed here
	m.renew(true)
}

// onFirstThread reports whether the loop runs on the process's first thread, to which
// the kernel gives the signals for the process. It mostly does, but a
// system call that takes long may return to another thread. Locking the goroutine to
// its thread would cost every monitor one more.
func onFirstThread() bool {
	tid, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
	return int(tid) == syscall.Getpid()
}

// counters are the numbers of this moment.
func (m *monitor) counters() *wire.Counters {
	c := &m.counts
	c.PID = m.init.pid
	if m.log != nil {
		l := &m.log.Counters
		c.LogBytesIn, c.LogBytesOut, c.LogLines, c.LogPartials = l.BytesIn, l.BytesOut, l.Lines, l.Partials
		c.LogDropped, c.LogErrors, c.LogErrno, c.LogReopens = l.Dropped, l.Errors, uint64(l.LastError), l.Reopens
		c.LogLimited, c.LogLimitedLines, c.LogPauses, c.LogPausedMillis = l.Limited, l.LimitedLines, l.Pauses, l.PausedMillis
	}
	c.AttachClients, c.ExecSessions = uint64(len(m.clients)), uint64(len(m.execs))
	return c
}

// complain writes one line to the monitor's own log.
func complain(what string, err error) {
	line := strconv.AppendInt(nil, now()/1e9, 10)
	line = append(append(append(line, " vitrine-monitor: "...), what...), ": "...)
	line = append(append(line, err.Error()...), '\n')
	write(2, line)
}

// fault is an error of the monitor's own making.
func fault(step string, kind launch.Kind, message string) *launch.Error {
	return &launch.Error{Step: step, Kind: kind, Message: message}
}
