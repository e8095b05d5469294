package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Bounds on what a plugin may say.
const (
	maxPluginOutput = 1 << 20 // bytes of stdout; a result is a few hundred
	maxPluginStderr = 2 << 10 // bytes of stderr that are kept, of either end
	// pipeGrace is how long the pipes of a killed plugin are read on.
	pipeGrace = time.Second
)

// pluginExec runs plugins for libcni: each execution is one span network.cni. What a
// plugin runs in turn (bridge runs host-local) is inside that span and not visible,
// because the delegation happens in the plugin's own process.
type pluginExec struct {
	version.PluginDecoder
	timeout time.Duration
}

var _ invoke.Exec = (*pluginExec)(nil)

// PluginError is an execution that did not succeed.
type PluginError struct {
	Plugin, Command string
	// Code is CNI's error code (SPEC "Error"), 0 when the plugin gave none.
	Code uint
	// Exit is the exit status, -1 when the plugin did not exit by itself.
	Exit int
	// Text is the plugin's own words, or the line of its stderr that says most.
	Text string
	// Cause is what ended it from outside: a deadline, a cancellation, a start that failed.
	Cause error
}

// Error says what the plugin said.
func (e *PluginError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s", e.Plugin, e.Command)
	switch {
	case e.Cause != nil:
		fmt.Fprintf(&text, ": %v", e.Cause)
	case e.Text == "":
		fmt.Fprintf(&text, ": exit status %d without a word", e.Exit)
	}
	if e.Text != "" {
		fmt.Fprintf(&text, ": %s", e.Text)
	}
	if e.Code != 0 {
		fmt.Fprintf(&text, " (CNI code %d)", e.Code)
	}
	return text.String()
}

// Unwrap leads to the cause; "try again later" is pod.ErrUnavailable.
func (e *PluginError) Unwrap() error {
	if e.Cause == nil && e.Code == types.ErrTryAgainLater {
		return pod.ErrUnavailable
	}
	return e.Cause
}

// FindInPath returns the plugin's path; one that is nowhere is ErrPluginMissing.
func (e *pluginExec) FindInPath(plugin string, paths []string) (string, error) {
	path, err := invoke.FindInPath(plugin, paths)
	if err != nil {
		return "", fmt.Errorf("%w: %q is in none of %s", ErrPluginMissing, plugin, strings.Join(paths, ":"))
	}
	return path, nil
}

// ExecPlugin runs one command of one plugin and returns its stdout. The plugin is
// killed with its children when ctx ends or the timeout has passed. An ADD also dies
// with the daemon: a late one, after a restart has undone it, would leak. A DEL does
// not, and release gives it a ctx that does not end: the reference plugins look at the
// pod's interface to find what else to take away, so a second DEL cannot finish one that
// was cut off after the interface was gone.
func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) (out []byte, err error) {
	plugin, command := filepath.Base(path), lookup(environ, "CNI_COMMAND")
	ctx, span := telemetry.Start(ctx, "network.cni",
		telemetry.KeyCNIPlugin.String(plugin),
		telemetry.KeyCNICommand.String(command),
		attribute.String("vitrine.cni.version", confVersion(stdin)))
	defer span.End(&err)

	ctx, cancel := context.WithTimeoutCause(ctx, e.timeout, fmt.Errorf("%w: killed after %s", pod.ErrDeadline, e.timeout))
	defer cancel()
	stdout, stderr := &head{limit: maxPluginOutput}, &ends{limit: maxPluginStderr}
	mortal := command != "DEL"
	runErr := runPlugin(ctx, path, stdin, pluginEnviron(ctx, environ), mortal, stdout, stderr)
	if runErr == nil {
		return stdout.buf.Bytes(), nil
	}
	failure := explain(ctx, runErr, stdout.buf.Bytes(), stderr)
	failure.Plugin, failure.Command = plugin, command
	span.Set(attribute.Int("process.exit.code", failure.Exit), attribute.String("vitrine.cni.stderr", stderr.String()))
	return nil, failure
}

// runPlugin starts the plugin in a process group of its own and waits for it; a
// mortal one dies with the daemon. The OS
// thread is held meanwhile, because the parent-death signal is bound to the thread
// that forked, and threads of this package are thrown away.
func runPlugin(ctx context.Context, path string, stdin []byte, environ []string, mortal bool, stdout *head, stderr *ends) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for attempt := 1; ; attempt++ {
		cmd := exec.CommandContext(ctx, path)
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if mortal {
			cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		} else if f := inherited(ctx); f != nil {
			cmd.ExtraFiles = []*os.File{f}
		}
		cmd.Cancel = func() error {
			if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
				return err
			}
			return os.ErrProcessDone
		}
		cmd.WaitDelay = pipeGrace
		err := cmd.Run()
		if !errors.Is(err, unix.ETXTBSY) || attempt == 20 {
			return err
		}
		select { // the file is being replaced
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type inheritedKey struct{}

// withInherited returns a context under which plugins that outlive the daemon inherit
// f. It travels by context because libcni stands between its giver and its taker.
func withInherited(ctx context.Context, f *os.File) context.Context {
	return context.WithValue(ctx, inheritedKey{}, f)
}

func inherited(ctx context.Context) *os.File {
	f, _ := ctx.Value(inheritedKey{}).(*os.File)
	return f
}

// explain turns a failed execution into words.
func explain(ctx context.Context, runErr error, stdout []byte, stderr *ends) *PluginError {
	failure := &PluginError{Exit: -1}
	var exited *exec.ExitError
	if errors.As(runErr, &exited) {
		failure.Exit = exited.ExitCode()
	}
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && said.Msg != "" {
		failure.Code, failure.Text = said.Code, said.Error()
	} else {
		failure.Text = stderr.reason()
	}
	switch {
	case ctx.Err() != nil:
		failure.Cause = context.Cause(ctx)
	case exited == nil:
		failure.Cause = runErr // it did not start, or said too much
	case failure.Exit == -1:
		failure.Cause = runErr // a signal from elsewhere
	}
	return failure
}

// pluginEnviron passes the daemon's environment on without what is the daemon's own
// affair, adds the trace context, and sees to it that iptables and its like are found.
func pluginEnviron(ctx context.Context, environ []string) []string {
	out := make([]string, 0, len(environ)+2)
	path := os.Getenv("PATH")
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		switch {
		case key == "PATH":
			path = value
		case strings.HasPrefix(key, "OTEL_"), strings.HasPrefix(key, "LISTEN_"), strings.HasPrefix(key, "WATCHDOG_"),
			key == "NOTIFY_SOCKET", key == "FDSTORE", key == "TRACEPARENT", key == "TRACESTATE":
		default:
			out = append(out, kv)
		}
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if !strings.Contains(":"+path+":", ":"+dir+":") {
			path = strings.TrimPrefix(path+":"+dir, ":")
		}
	}
	out = append(out, "PATH="+path)
	if parent := telemetry.Traceparent(ctx); parent != "" {
		out = append(out, "TRACEPARENT="+parent)
	}
	return out
}

func lookup(environ []string, key string) string {
	for _, kv := range environ {
		if value, found := strings.CutPrefix(kv, key+"="); found {
			return value
		}
	}
	return ""
}

func confVersion(stdin []byte) string {
	var conf struct {
		Version string `json:"cniVersion"`
	}
	json.Unmarshal(stdin, &conf) // an unreadable one is the plugin's to refuse
	return conf.Version
}

// head keeps what is written up to its limit and refuses more.
type head struct {
	buf   bytes.Buffer
	limit int
}

func (h *head) Write(p []byte) (int, error) {
	if h.buf.Len()+len(p) > h.limit {
		return 0, fmt.Errorf("%w: the plugin wrote more than %d bytes", pod.ErrExhausted, h.limit)
	}
	return h.buf.Write(p)
}

// ends keeps the first and the last bytes that are written, limit of each: a
// program that crashes says why first, one that gives up says so last.
type ends struct {
	first, last []byte
	limit       int
	dropped     int // bytes between the two
}

func (e *ends) Write(p []byte) (int, error) {
	wrote := len(p)
	room := min(len(p), e.limit-len(e.first))
	e.first, p = append(e.first, p[:room]...), p[room:]
	e.last = append(e.last, p...)
	if over := len(e.last) - e.limit; over > 0 {
		e.dropped += over
		e.last = append(e.last[:0], e.last[over:]...)
	}
	return wrote, nil
}

// String is what was written, with the number of bytes that were dropped.
func (e *ends) String() string {
	if e.dropped == 0 {
		return string(e.first) + string(e.last)
	}
	return fmt.Sprintf("%s\n[… %d bytes …]\n%s", e.first, e.dropped, e.last)
}

// reason is the one line of it that says most: that of a crash, otherwise the last.
func (e *ends) reason() string {
	last := ""
	for line := range strings.Lines(e.String()) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}
