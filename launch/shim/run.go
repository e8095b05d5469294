package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/serve"
)

// Times are when the launcher was forked, reached main, and had waited for its request,
// which is zero without a gate.
type Times struct{ Born, Main, Waited time.Time }

// line begins with the steps that the times mark.
func (at Times) line() *line {
	l := &line{at: at.Born}
	l.end("launch.init", at.Main)
	if !at.Waited.IsZero() {
		l.end(launch.StepWait, at.Waited)
	}
	return l
}

// Await returns when the request may be read, and when that was; zero without a gate
// (launch.GateFD). It must be called before this process opens anything.
func Await() (waited time.Time, err error) {
	if !isPipe(launch.GateFD) {
		return waited, nil
	}
	err = serve.PassGate()
	return time.Now(), err
}

// Run does a request that is done when it is answered. For those that start or join a
// process it starts a keeper, which answers, and kept is true: the caller ends then.
func Run(request launch.Request, path string, at Times) (reply launch.Reply, kept bool) {
	t := &task{request: request}
	l := at.line()
	step := "shim." + string(request.Op)
	var err error
	switch request.Op {
	case launch.OpCreate, launch.OpExec, launch.OpWatch:
		step = "launch.request"
		if err = t.spawnKeeper(path, at); err == nil {
			return reply, true
		}
	case launch.OpStart:
		_, err = t.call("Start", t.ids(), callBound)
	case launch.OpDelete:
		err = t.remove()
	case launch.OpFeatures:
		reply.Features, err = t.features()
	default:
		err = unknownOp(request.Op)
	}
	l.end(step, time.Now())
	reply.Steps = l.steps
	if err != nil {
		reply.Error = fault(step, request.Runtime.Path, err)
	}
	return reply, false
}

// DoneFD is a pipe whose end tells the launcher that its keeper has answered.
const DoneFD = 5

// spawnKeeper starts a keeper with this process's streams, or the slave of a new
// terminal, and returns when it has answered: from then on it is the caller's child.
func (t *task) spawnKeeper(path string, at Times) error {
	// The shim, which its starter leaves behind, and the keeper shall be found among this
	// process's descendants until the answer: whoever gives up kills those.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	terminal, err := t.wantsTerminal()
	if err != nil {
		return err
	}
	done, its, err := os.Pipe()
	if err != nil {
		return err
	}
	defer done.Close()
	attr := &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(launch.ReplyFD, "reply"), nil, its},
		Sys:   &unix.SysProcAttr{Setsid: true},
	}
	if terminal {
		slave := os.Stdin // of OpWatch
		if t.request.Op != launch.OpWatch {
			if slave, err = newTerminal(); err != nil {
				its.Close()
				return err
			}
			defer slave.Close()
		}
		attr.Files[0], attr.Files[1], attr.Files[2] = slave, slave, slave
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	args := []string{"vitrine-shim", "keep", path}
	for _, when := range []time.Time{at.Born, at.Main, at.Waited} {
		args = append(args, strconv.FormatInt(nanos(when), 10))
	}
	_, err = os.StartProcess("/proc/self/exe", args, attr)
	its.Close()
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	_, _ = io.Copy(io.Discard, done)
	return nil
}

// nanos is 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// ParseTimes reads the three times that a keeper is started with, in nanoseconds since 1970; what
// is 0 or no number stays zero. args has three elements at least.
func ParseTimes(args []string) (at Times) {
	for i, when := range []*time.Time{&at.Born, &at.Main, &at.Waited} {
		if n, err := strconv.ParseInt(args[i], 10, 64); err == nil && n != 0 {
			*when = time.Unix(0, n)
		}
	}
	return at
}

func (t *task) wantsTerminal() (bool, error) {
	if t.request.Op == launch.OpExec {
		return terminalOf(t.request.Process)
	}
	return t.terminal()
}

// terminal reads from the specification whether the container has a terminal.
func (t *task) terminal() (bool, error) {
	raw, err := os.ReadFile(filepath.Join(t.request.Bundle, "config.json"))
	if err != nil {
		return false, fmt.Errorf("read specification: %w", err)
	}
	var spec struct{ Process json.RawMessage }
	if err := json.Unmarshal(raw, &spec); err != nil {
		return false, fmt.Errorf("parse specification: %w", err)
	}
	return terminalOf(spec.Process)
}

func terminalOf(process []byte) (bool, error) {
	var p struct{ Terminal bool }
	if err := json.Unmarshal(process, &p); err != nil {
		return false, fmt.Errorf("parse process: %w", err)
	}
	return p.Terminal, nil
}

// newTerminal makes a terminal, sends its master to the caller and returns the other
// side. It changes nothing on the way: the one at the shim does what terminals do.
func newTerminal() (*os.File, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	slave, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	f := os.NewFile(uintptr(slave), "terminal")
	attr, err := unix.IoctlGetTermios(slave, unix.TCGETS)
	if err == nil {
		attr.Iflag, attr.Oflag, attr.Lflag = 0, 0, 0 // as cfmakeraw(3), and no more
		attr.Cflag = attr.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		attr.Cc[unix.VMIN], attr.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(slave, unix.TCSETS, attr)
	}
	if err == nil {
		err = unix.Sendmsg(launch.ConsoleFD, []byte{0}, unix.UnixRights(master), nil, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("hand over a terminal: %w", err)
	}
	return f, nil
}

// features is the name and version: the interface has no way to ask for more, and what
// a shim cannot tell is not promised.
func (t *task) features() (launch.Document, error) {
	path := t.request.Runtime.Path
	ctx, cancel := context.WithTimeout(context.Background(), dialBound)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-v").Output()
	if err != nil {
		return nil, fmt.Errorf("run %s -v: %w", path, err)
	}
	f := launch.Features{Runtime: filepath.Base(path)}
	for text := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(text, ":"); ok && strings.EqualFold(strings.TrimSpace(key), "version") {
			f.Version = strings.TrimSpace(value)
		}
	}
	return json.Marshal(f)
}

// gone tells whether a shim complains that a process has ended.
func gone(text string) bool {
	for _, part := range []string{"process already finished", "not found", "does not exist", "already stopped", "not running", "process already deleted"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// maxMessage bounds an error's text, in bytes.
const maxMessage = 2048

// fault translates an error for whoever asked.
func fault(step, path string, err error) *launch.Error {
	text := strings.Join(strings.Fields(strings.TrimSuffix(err.Error(), ": unknown")), " ")
	if lookup := launch.LookupError(strings.TrimSuffix(firstError(err), ": unknown")); lookup != nil {
		return lookup
	}
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	kind := launch.KindInternal
	switch {
	case errors.Is(err, errUnknownOp), step == "shim.start" && errors.Is(err, os.ErrNotExist):
		kind = launch.KindInvalid
	case step != "shim.create" && ignoreGone(err) == nil:
		kind = launch.KindGone
	}
	return &launch.Error{Step: step, Kind: kind, Message: filepath.Base(path) + ": " + text}
}

// firstError is the first line of an error's text: what follows are errors of the undo.
func firstError(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}
