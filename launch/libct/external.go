package libct

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// An external is an OCI runtime binary, driven by the command line that runc has made the
// custom (there is no specification of it): global options, sub-command, its options, id.
type external struct {
	*job
	dir string   // for the files of this run; removed after it
	fd  *os.File // of dir, while a socket's path goes through it
}

// runExternal does the request with the runtime at request.Runtime.Path.
func (j *job) runExternal() (reply launch.Reply, err error) {
	x := &external{job: j}
	if j.request.Op == launch.OpFeatures {
		reply.Features, err = x.features()
		return reply, err
	}
	if x.dir, err = os.MkdirTemp(j.request.Bundle, "launch-"); err != nil {
		return reply, fmt.Errorf("make directory for the runtime's files: %w", err)
	}
	defer os.RemoveAll(x.dir)
	switch j.request.Op {
	case launch.OpCreate:
		reply.PID, err = x.create()
	case launch.OpCheckpoint:
		err = x.checkpoint()
	case launch.OpRestore:
		reply.PID, err = x.restore()
	case launch.OpStart:
		if j.request.Criu != nil {
			reply.PID, err = x.resume()
			break
		}
		err = x.command("start")
	case launch.OpExec:
		reply.PID, err = x.exec()
	case launch.OpDelete:
		err = x.command("delete", "--force")
		if err != nil && saysAbsent(err.Error()) {
			err = nil
		}
	default:
		err = invalid("launch.request", fmt.Errorf("unknown operation %q", j.request.Op))
	}
	return reply, err
}

func (x *external) create() (int, error) {
	spec, err := x.spec()
	if err != nil {
		return 0, invalid("libct.spec", err)
	}
	x.line.end("libct.spec")
	return x.orNothing(x.withProcess(spec.Process, "create", "--bundle", x.request.Bundle))
}

// orNothing passes on what making a container gave and, when that failed, removes what is left.
func (x *external) orNothing(pid int, err error) (int, error) {
	if err != nil {
		if undo := x.command("delete", "--force"); undo != nil && !saysAbsent(undo.Error()) {
			err = errors.Join(err, fmt.Errorf("undo create: %w", undo))
		}
	}
	return pid, err
}

func (x *external) exec() (int, error) {
	var p specs.Process
	if err := json.Unmarshal(x.request.Process, &p); err != nil {
		return 0, invalid("libct.spec", fmt.Errorf("parse process: %w", err))
	}
	if err := checkProcess(&p); err != nil {
		return 0, invalid("libct.spec", err)
	}
	file := filepath.Join(x.dir, "process.json")
	if err := os.WriteFile(file, x.request.Process, 0o600); err != nil {
		return 0, fmt.Errorf("write process: %w", err)
	}
	if p.OOMScoreAdj != nil {
		// crun leaves the session with that of its caller, and a monitor's is the lowest.
		// Others set what they are told; what the kernel refuses here it refuses them, too.
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(*p.OOMScoreAdj)), 0)
	}
	x.line.end("libct.spec")
	return x.withProcess(&p, "exec", "--detach", "--process", file)
}

// withProcess runs a sub-command that starts a process, which inherits the launcher's
// standard streams or gets a terminal, and returns the process's id.
func (x *external) withProcess(p *specs.Process, sub string, args ...string) (int, error) {
	// The runtime leaves the process behind when it ends. Until this launcher has
	// answered, it is the one that inherits it: its caller reaps what it does not
	// know, and a process that ends at once would end unheard.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become subreaper: %w", err)
	}
	file := filepath.Join(x.dir, "pid")
	args = append(args, "--pid-file", file)
	var listener *net.UnixListener
	if p.Terminal {
		var err error
		var path string
		if listener, path, err = x.listen(); err != nil {
			return 0, err
		}
		defer listener.Close()
		args = append(args, "--console-socket", path)
	}
	if err := x.command(sub, args...); err != nil {
		return 0, nameProgram(err, p)
	}
	if listener != nil {
		if err := forwardFrom(listener); err != nil {
			return 0, err
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read process id from %s: %w", filepath.Base(x.request.Runtime.Path), err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s wrote %q as process id", filepath.Base(x.request.Runtime.Path), raw)
	}
	return pid, nil
}

// listen makes the socket at which a runtime delivers a terminal. Its path is short
// enough for an address of a socket however long the bundle's is.
func (x *external) listen() (*net.UnixListener, string, error) {
	dir, err := os.Open(x.dir)
	if err != nil {
		return nil, "", fmt.Errorf("make console socket: %w", err)
	}
	x.fd = dir
	path := fmt.Sprintf("/proc/%d/fd/%d/console", os.Getpid(), dir.Fd())
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, "", fmt.Errorf("make console socket: %w", err)
	}
	return listener, path, nil
}

// forwardFrom hands on the terminal of the first connection, which the runtime has made before
// it ended, or never.
func forwardFrom(listener *net.UnixListener) error {
	conn, err := listener.AcceptUnix()
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	defer conn.Close()
	file, err := conn.File()
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	defer file.Close()
	return forwardMaster(int(file.Fd()))
}

// command runs one sub-command on the container.
func (x *external) command(sub string, args ...string) error {
	log := filepath.Join(x.dir, "log")
	defer os.Remove(log)
	global := append([]string{}, x.request.Runtime.Args...)
	global = append(global, "--root", x.request.Root, "--log", log, "--log-format", "json")
	if x.request.Runtime.SystemdCgroup {
		global = append(global, "--systemd-cgroup")
	}
	global = append(append(global, sub), args...)
	cmd := exec.Command(x.request.Runtime.Path, append(global, x.request.ID)...)
	cmd.Dir = x.request.Bundle
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	step := "runtime." + sub
	err := cmd.Run()
	x.line.end(step)
	if err == nil {
		return nil
	}
	if text := loggedError(log); text != "" {
		err = errors.New(text)
	}
	return &launch.Error{Step: step, Kind: externalKind(err.Error()), Message: externalMessage(x.request.Runtime.Path, err.Error())}
}

// maxLog bounds what is read of a runtime's log, in bytes from its end.
const maxLog = 64 << 10

// loggedError returns the last error in a runtime's log.
func loggedError(path string) (text string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	raw = raw[max(0, len(raw)-maxLog):]
	for line := range bytes.Lines(raw) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			text = entry.Msg
		}
	}
	return text
}

// externalMessage puts the runtime's name before its words, without the fillers.
func externalMessage(path, text string) string {
	name := filepath.Base(path)
	for _, sub := range []string{"create", "start", "exec", "delete", "checkpoint", "restore"} {
		text = strings.TrimPrefix(text, name+" "+sub+" failed: ")
	}
	text = clean(text)
	if lookup := launch.LookupError(text); lookup != nil {
		return lookup.Message
	}
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return name + ": " + text
}

// nameProgram puts the program before an error about it, where the runtime did not.
func nameProgram(err error, p *specs.Process) error {
	var failed *launch.Error
	if errors.As(err, &failed) && len(p.Args) > 0 && !strings.Contains(failed.Message, p.Args[0]) &&
		(failed.Kind == launch.KindNotFound || failed.Kind == launch.KindNotExecutable) {
		failed.Message = fmt.Sprintf("exec %q: %s", p.Args[0], failed.Message)
	}
	return err
}

// externalKind classifies the words of runc, crun and their like.
func externalKind(text string) launch.Kind {
	if lookup := launch.LookupError(text); lookup != nil {
		return lookup.Kind
	}
	for _, c := range []struct {
		part string
		kind launch.Kind
	}{
		{"executable file", launch.KindNotFound}, // crun: executable file `x` not found in $PATH
		{"stopped container", launch.KindGone},
		{"container that has stopped", launch.KindGone},
		{"is not running", launch.KindGone},
		{"container not running", launch.KindGone},
		{"open executable", launch.KindNotExecutable},       // crun: a directory, or no permission
		{"is not a regular file", launch.KindNotExecutable}, // crun 1.21: a directory
		{"is not executable", launch.KindNotExecutable},     // crun 1.21: no permission
		{"exec format error", launch.KindNotExecutable},
		{"Exec format error", launch.KindNotExecutable},
		{"hybrid mode", launch.KindInvalid},
		{"unable to set memory limit", launch.KindInvalid}, // runc: below what is in use already
	} {
		if strings.Contains(text, c.part) {
			return c.kind
		}
	}
	if saysAbsent(text) {
		return launch.KindGone
	}
	return launch.KindInternal
}

// saysAbsent tells whether a runtime complains that it does not know the container.
func saysAbsent(text string) bool {
	return strings.Contains(text, "does not exist") || strings.Contains(text, "container not found")
}
