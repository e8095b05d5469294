package monitor

import (
	"strings"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// state is where the container's init stands.
//
//	none ──► creating ──► created ──► starting ──► running ──► dead ──► told
//	  ▲          │           │            └────────────────────▲
//	  └──────────┘ (failed)  └─────────────────────────────────┘ (killed before its start)
//
// dead is reaped; told is the exit record on disk and everyone told.
type state uint8

const (
	none state = iota
	creating
	created
	starting
	running
	dead
	told
)

// container is the container's init.
type container struct {
	m         *monitor
	state     state
	pid       int
	pidfd     int    // owned by the reaper; -1 once reaped
	group     string // a cgroup directory with the container's processes
	startedAt int64  // when the program was executed
	creation  *run   // while creating
	// sharesPIDs: it is in the monitor's own pid namespace, so that what loses its
	// parent there becomes the monitor's child.
	sharesPIDs bool
	// born is the init's start in clock ticks since boot: with pid, its identity.
	born uint64
	// lost counts keepers that were killed.
	lost int
	// orphan: another monitor was its parent.
	orphan bool

	// While starting.
	fifo    int  // the exec fifo, until its byte came
	verdict int  // read end of the exec pipe: end of file is success, text is an error
	let     bool // the byte came: the init has passed the point of no return
	text    []byte
	waiter  waiter
	before  process // the init before the start; tells whether it ever executed anything
	after   process // the init at its end
	words   tail    // the last of stderr before the program was executed
	starter *run    // an external runtime starting the container; its answer is the start's

	exit     wire.Exit
	settling bool // the init was reaped, its record is not written
	attempts int
	retry    timer
}

// waiter is a request whose answer comes later.
type waiter struct {
	conn        *conn
	id          uint32
	traceparent string
	since       int64
}

func (w *waiter) answer(err *launch.Error) {
	w.conn.reply(w.id, err, nil)
	*w = waiter{}
}

// never reports whether there is no init and none is coming.
func (c *container) never() bool { return c.state == none }

// start answers a Start request: at once with an error, or when the init has
// executed the user's program or ended. A daemon that died while it waited, or that
// could not record the answer, asks again and gets the outcome of the first request.
func (c *container) start(from *conn, msg *wire.Message) {
	var err *launch.Error
	switch {
	case c.state == running:
		from.reply(msg.ID, nil, nil)
		return
	case c.state == starting && c.waiter.conn != nil:
		first := c.waiter
		c.waiter = waiter{from, msg.ID, first.traceparent, first.since}
		first.answer(fault("monitor.start", launch.KindInvalid, "a later request waits for the start now"))
		return
	case c.state >= dead:
		err = fault("monitor.start", launch.KindGone, "the container has ended")
	case c.state != created:
		err = fault("monitor.start", launch.KindInvalid, "the container is not waiting to be started")
	}
	if err != nil {
		from.reply(msg.ID, err, nil)
		return
	}
	c.state = starting
	c.words.text = nil
	c.waiter = waiter{from, msg.ID, msg.Traceparent, now()}
	c.before, _ = look(c.pid)
	if c.m.config.ExecFifo == "" {
		c.startByLauncher()
		return
	}
	fd, e := syscall.Open(c.m.config.ExecFifo, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if e != nil {
		c.notStarted(fault("monitor.start", launch.KindInternal, "open "+c.m.config.ExecFifo+": "+e.Error()))
		return
	}
	c.fifo = fd
	c.m.watch(c.fifo, syscall.EPOLLIN, c)
	if c.verdict >= 0 {
		c.m.watch(c.verdict, syscall.EPOLLIN, c)
	}
}

// ready follows the start: the byte from the fifo, then the end of the exec pipe.
func (c *container) ready(uint32) {
	buf := c.m.scratch[:1024]
	if c.fifo >= 0 {
		if n, _ := read(c.fifo, buf[:1]); n == 1 {
			c.let = true
			c.m.drop(&c.fifo)
			syscall.Unlink(c.m.config.ExecFifo)
		}
	}
	for c.verdict >= 0 {
		n, e := read(c.verdict, buf)
		if e == syscall.EAGAIN {
			return
		}
		if n == 0 {
			c.m.drop(&c.verdict)
			break
		}
		if len(c.text) < tailSize {
			c.text = append(c.text, buf[:n]...)
		}
	}
	// With an error in hand, and when the pipe ended before the byte came, the init is
	// on its way out; its exit finishes the start.
	if c.let && c.verdict < 0 && len(c.text) == 0 {
		if p, _ := look(c.pid); c.executed(p) {
			c.started()
		}
	}
}

// executed reports whether the init has executed the user's program: a process's
// flag "forked, not executed" is cleared by execve and nothing else. now is the init
// as it is, or was when it ended. An init that did not have the flag while it waited is
// some other runtime's; the end of the exec pipe must do then.
func (c *container) executed(now process) bool {
	return now.pid != 0 && (now.flags&pfForkNoExec == 0 || c.before.flags&pfForkNoExec == 0)
}

// started is called when the user's program has been executed.
func (c *container) started() {
	if c.state != starting {
		return
	}
	c.state = running
	c.startedAt = now()
	c.words.text = nil
	c.m.ledger.keep()
	w := c.waiter
	c.waiter.answer(nil)
	c.m.report.started(w, c.startedAt, nil)
}

// notStarted is called when the start failed. The init, if it lives, is ended.
func (c *container) notStarted(err *launch.Error) {
	c.m.drop(&c.fifo)
	c.m.drop(&c.verdict)
	c.exit.StartError = strings.Clone(err.Message) // it may be part of a reply
	w := c.waiter
	c.waiter.answer(err)
	c.m.report.started(w, now(), err)
	if c.state < dead {
		c.signal(syscall.SIGKILL, true)
	}
}

// startByLauncher has an external runtime start the container.
func (c *container) startByLauncher() {
	r, err := c.m.launch(c.m.config.StartRequest, noStreams, false, nil, func(_ *run, reply launch.Reply) {
		c.starter = nil
		switch {
		case c.state != starting:
			c.overtaken(reply)
		case reply.Error != nil:
			c.notStarted(reply.Error)
		default:
			c.started()
		}
	})
	if err != nil {
		c.notStarted(err)
		return
	}
	c.starter = r
}

// overtaken answers a start of which the runtime told only after the container had
// ended: a short program is done before its runtime is. The end is on record by now.
func (c *container) overtaken(reply launch.Reply) {
	err := reply.Error
	if err == nil && reply.PID == 0 && !c.executed(c.after) {
		err = c.neverExecuted(c.exit.Status)
	}
	if err == nil {
		w := c.waiter
		c.waiter.answer(nil)
		c.m.report.started(w, c.startedAt, nil)
		return
	}
	c.exit.StartedAt = 0
	c.notStarted(err)
	if c.state == told {
		if err := writeFile(wire.ExitFile, c.exit.Append(nil)); err != nil {
			complain("amend exit record", err)
		}
	}
}

// neverExecuted is the error of a start whose init ended with status too early.
func (c *container) neverExecuted(status uint32) *launch.Error {
	message := "the init ended before it executed the program (" + describe(status) + ")"
	if line := c.words.line(); line != "" {
		message += ": " + line
	}
	return fault("monitor.start", launch.KindInternal, message)
}

// ending is called when the init has ended and can still be looked at.
func (c *container) ending() { c.after, _ = look(c.pid) }

// signal sends sig to the init, or to all processes of the container.
func (c *container) signal(sig syscall.Signal, all bool) *launch.Error {
	if c.kept() {
		return c.signalKeeper(sig)
	}
	if all && c.group != "" && c.state >= created {
		signalGroup(c.group, sig)
		return nil
	}
	if c.state < created || c.state >= dead {
		return fault("monitor.signal", launch.KindGone, "the container is not running")
	}
	if all && sig == syscall.SIGKILL {
		killTree([]int{c.pid}, "")
		return nil
	}
	if e := pidfdSignal(c.pidfd, sig); e == syscall.ESRCH {
		return fault("monitor.signal", launch.KindGone, "the container is not running")
	} else if e != 0 {
		return fault("monitor.signal", launch.KindInvalid, e.Error())
	}
	return nil
}
