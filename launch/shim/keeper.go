package shim

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// killSignal asks a keeper for what SIGKILL does to a native container.
const killSignal = syscall.Signal(launch.KeeperKill)

// Keep makes or joins a process at its shim, answers, stays until the process has ended,
// and returns the status to end with. Answer is called once and lets go of everything
// that belongs to the request alone.
func Keep(request launch.Request, at Times, answer func(launch.Reply) error) int {
	k := &keeper{task: task{request: request}, line: at.line()}
	k.line.end("launch.request", time.Now())
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	reply := launch.Reply{}
	if err := k.begin(); err != nil {
		reply.Error = k.fault(err)
	} else {
		reply.PID = os.Getpid()
	}
	k.line.end("launch.reply", time.Now())
	reply.Steps = k.line.steps
	if err := answer(reply); err != nil && reply.Error == nil {
		_ = k.kill(uint64(unix.SIGKILL), true) // whoever asked is gone
	}
	if reply.Error != nil {
		return 1
	}
	go k.pass(signals) // ends with the process
	return k.end()
}

type keeper struct {
	task
	line  *line
	stdio *stdio
	step  string // under way
}

// begin does what the request asks, up to its answer.
func (k *keeper) begin() (err error) {
	k.step = "launch.request"
	terminal := false
	switch k.request.Op {
	case launch.OpExec:
		terminal, err = terminalOf(k.request.Process)
		k.exec = "x" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	default:
		terminal, err = k.terminal()
	}
	if err != nil {
		return err
	}
	do := func(step string, f func() error) {
		if err != nil {
			return
		}
		k.step = step
		err = f()
		k.line.end(step, time.Now())
	}
	if k.request.Op == launch.OpCreate {
		do("shim.start", k.start)
		defer func() {
			if err != nil {
				err = errors.Join(err, k.remove())
			}
		}()
	}
	do("shim.streams", func() error { k.stdio, err = k.openStdio(terminal); return err })
	switch k.request.Op {
	case launch.OpCreate:
		do("shim.create", func() error { return k.create(k.stdio) })
	case launch.OpExec:
		do("shim.exec", func() error { return k.startExec(k.stdio) })
	}
	if err == nil {
		k.carry(k.stdio)
	}
	return err
}

// end waits for the process and what it has written, and leaves its status behind.
func (k *keeper) end() int {
	status, ok := 0, false
	if k.exec == "" {
		status, ok = k.ended()
	}
	if !ok {
		var err error
		if status, err = k.wait(); err != nil {
			status = k.lost()
		}
	}
	if k.exec == "" {
		_ = writeFile(k.path("ended"), strconv.Itoa(status)) // without it a successor asks the shim again
	}
	k.stdio.flush()
	if k.exec != "" {
		_, _ = k.call("Delete", k.ids(), callBound)
		k.removeStdio()
	}
	return status
}

// lost deals with a shim that died or does not know the process any more: what it left
// runs unwatched, so it is ended. The status is that of a SIGKILL, as containerd has it.
func (k *keeper) lost() int {
	if k.exec == "" {
		_ = k.cleanUp()
	}
	return 128 + int(unix.SIGKILL)
}

// pass hands on the signals that this process gets.
func (k *keeper) pass(signals <-chan os.Signal) {
	if k.stdio.terminal {
		k.resize()
	}
	for s := range signals {
		sig, ok := s.(syscall.Signal)
		switch {
		case !ok, sig == unix.SIGCHLD, sig == unix.SIGURG, sig == unix.SIGPIPE, sig == unix.SIGCONT:
			// Go's own, and those of its surroundings.
		case sig == unix.SIGWINCH:
			k.resize()
		case sig == killSignal:
			_ = k.kill(uint64(unix.SIGKILL), k.exec == "")
		default:
			_ = k.kill(uint64(sig), false)
		}
	}
}

// resize gives the process's terminal the size of the one on this side.
func (k *keeper) resize() {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return
	}
	_, _ = k.call("ResizePty", k.ids().uint(3, uint64(size.Col)).uint(4, uint64(size.Row)), callBound)
}

// fault is the error as the contract wants it.
func (k *keeper) fault(err error) *launch.Error { return fault(k.step, k.request.Runtime.Path, err) }

// A line cuts the time of one run into steps.
type line struct {
	at    time.Time
	steps []launch.Step
}

func (l *line) end(name string, at time.Time) {
	l.steps = append(l.steps, launch.Step{Name: name, Start: l.at.UnixNano(), End: at.UnixNano()})
	l.at = at
}

var errUnknownOp = errors.New("unknown operation")

func unknownOp(op launch.Op) error { return fmt.Errorf("%w %q", errUnknownOp, op) }
