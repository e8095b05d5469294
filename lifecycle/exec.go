package lifecycle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// ExecSync runs a command to its end and returns its output. timeout 0 means no
// bound but ctx's. Errors: ErrDeadline after timeout, with every process of the
// command killed; ErrState when the container does not run. A command that cannot be
// executed is no error but an exit code: see Exec.
func (m *Manager) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (ExecResult, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("command timed out after %v", timeout))
		defer cancel()
	}
	stdout, stderr := &capped{limit: ExecOutputLimit}, &capped{limit: ExecOutputLimit}
	code, err := m.Exec(ctx, id, ExecRequest{Cmd: cmd, Streams: Streams{Stdout: stdout, Stderr: stderr}})
	return ExecResult{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes(), ExitCode: code}, err
}

// capped keeps the first limit bytes and accepts the rest.
type capped struct {
	buf   bytes.Buffer
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	c.buf.Write(p[:min(len(p), c.limit-c.buf.Len())])
	return len(p), nil
}

// Exec runs a command with the caller's streams and returns its exit status. A command
// that is not in the container ends with 127 and one that cannot be executed with 126,
// as a shell has it, with the cause on its standard error (docs/decisions/0025). When
// ctx ends first, every process of the command is killed and the error is ErrDeadline.
func (m *Manager) Exec(ctx context.Context, id string, req ExecRequest) (code int32, err error) {
	if len(req.Cmd) == 0 {
		return 0, fmt.Errorf("exec: %w: empty command", pod.ErrInvalid)
	}
	e, monitor, err := m.running(id)
	if err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	c := *e.value.Load()
	owner, err := m.index.sandbox(string(c.SandboxID))
	if err != nil {
		return 0, err
	}
	sb := *owner.value.Load()
	ctx, op := m.ops.begin(ctx, "exec", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)

	var process []byte
	if err := op.step(ctx, "process", func(context.Context) error {
		process, err = m.execProcess(c, req)
		return err
	}); err != nil {
		return 0, err
	}
	op.enter("monitor.exec")
	started := m.execs.begin(c.ID)
	defer started.end()
	session, err := monitor.Exec(ctx, client.ExecOptions{
		Process: process, Terminal: req.TTY, Traceparent: telemetry.Traceparent(ctx),
		Stdin: req.Stdin != nil, Stdout: req.Stdout != nil, Stderr: req.Stderr != nil,
		Enterer: m.enterer,
	})
	if code, cause := notExecuted(err); cause != "" {
		return code, tellCause(req, cause)
	}
	if err != nil && !proc.Alive(c.Init) {
		return 0, fmt.Errorf("exec in %s: %w: it has ended meanwhile: %w", c.ID.Short(), pod.ErrState, launchError(err))
	}
	if err != nil {
		return 0, fmt.Errorf("exec in %s: %w", c.ID.Short(), launchError(err))
	}
	defer session.Close()
	started.is(session.PID())
	return m.run(ctx, op, session, req.Streams)
}

// notExecuted is the exit code of a command that could not be executed, with the cause;
// empty for any other outcome.
func notExecuted(err error) (code int32, cause string) {
	var failed *launch.Error
	if !errors.As(err, &failed) {
		return 0, ""
	}
	switch failed.Kind {
	case launch.KindNotFound:
		return 127, failed.Message
	case launch.KindNotExecutable:
		return 126, failed.Message
	}
	return 0, ""
}

// tellCause writes the cause where the command's own complaints would have gone.
func tellCause(req ExecRequest, cause string) error {
	to, end := req.Streams.Stderr, "\n"
	if req.TTY {
		to, end = req.Streams.Stdout, "\r\n"
	}
	if to == nil {
		return nil
	}
	if _, err := io.WriteString(to, cause+end); err != nil {
		return fmt.Errorf("exec: %s, which could not be told: %w", cause, err)
	}
	return nil
}

// run moves the streams until the session ends.
func (m *Manager) run(ctx context.Context, op *operation, session *client.Session, streams Streams) (code int32, err error) {
	output := connect(session, streams)
	err = op.step(ctx, "run", func(ctx context.Context) (err error) {
		code, err = session.Wait(ctx)
		return err
	})
	if ctx.Err() != nil {
		kill, cancel := m.detached(ctx, killBound)
		defer cancel()
		err = errors.Join(context.Cause(ctx), ignoreGone(session.Kill(kill)))
		session.Close()
		output.Wait()
		return 0, fmt.Errorf("exec: %w: %w", pod.ErrDeadline, err)
	}
	drained := op.step(ctx, "drain", func(context.Context) error {
		output.Wait()
		return nil
	})
	return code, cmp.Or(err, drained)
}

// connect starts the copying between a session and the caller's streams. The
// returned group ends when the session's outputs have; the copy of standard input
// ends with the caller's reader, which nobody can interrupt, and is not waited for.
func connect(session *client.Session, streams Streams) *sync.WaitGroup {
	var output sync.WaitGroup
	if streams.Stdout != nil {
		output.Go(func() { io.Copy(streams.Stdout, session.Stdout()) })
	}
	if streams.Stderr != nil {
		output.Go(func() { io.Copy(streams.Stderr, session.Stderr()) })
	}
	if streams.Stdin != nil {
		go func() {
			stdin := session.Stdin()
			io.Copy(stdin, streams.Stdin)
			stdin.Close()
		}()
	}
	if streams.Resize != nil {
		go func() { // ends when the caller closes the channel
			for size := range streams.Resize {
				session.Resize(size.Width, size.Height)
			}
		}()
	}
	return &output
}

// Attach joins the streams of PID 1 until it ends, ctx ends, or standard input
// ends with no output wanted. A client that goes away is no error. ErrState when the
// container does not run, ErrUnavailable without its monitor.
func (m *Manager) Attach(ctx context.Context, id string, req AttachRequest) (err error) {
	e, monitor, err := m.running(id)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	session, err := monitor.Attach(ctx, client.AttachOptions{
		Stdin: req.Stdin != nil, Stdout: req.Stdout != nil, Stderr: req.Stderr != nil,
	})
	if err != nil {
		return fmt.Errorf("attach to %s: %w", e.value.Load().ID.Short(), err)
	}
	defer session.Close()
	output := connect(session, req.Streams)
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	if _, err = session.Wait(ctx); ctx.Err() != nil {
		err = nil // the client went away; that ends an attach and is no failure
	}
	session.Close()
	output.Wait()
	return err
}

// running finds a container that runs, with its monitor.
func (m *Manager) running(id string) (*containerEntry, *client.Monitor, error) {
	e, err := m.index.container(id)
	if err != nil {
		return nil, nil, err
	}
	c := e.value.Load()
	if c.State == pod.Creating {
		return nil, nil, fmt.Errorf("container %q: %w", id, pod.ErrNotFound)
	}
	if c.State != pod.Running && c.State != pod.Stopping {
		return nil, nil, fmt.Errorf("container %s: %w: it is %s, not running", c.ID.Short(), pod.ErrState, c.State)
	}
	monitor := e.monitor.Load()
	if monitor == nil {
		return nil, nil, fmt.Errorf("container %s: %w: its monitor is gone", c.ID.Short(), pod.ErrUnavailable)
	}
	return e, monitor, nil
}

// processFile holds the OCI process of PID 1, from which exec'ed ones derive.
const processFile = "process.json"

// execProcess derives the process of an exec from the container's own: same
// identity, capabilities, environment and working directory.
func (m *Manager) execProcess(c pod.Container, req ExecRequest) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(m.store.ContainerDir(c.ID), processFile))
	if err != nil {
		return nil, fmt.Errorf("derive process: %w", err)
	}
	var process specs.Process
	if err := json.Unmarshal(raw, &process); err != nil {
		return nil, fmt.Errorf("derive process: %w", err)
	}
	derived, err := spec.Process(&process, req.Cmd, req.TTY)
	if err != nil {
		return nil, err
	}
	if c.Resources != nil { // an update may have changed it
		score, err := spec.OOMScoreAdj(c.Resources.GetOomScoreAdj(), m.host.Facts, nil)
		if err != nil {
			return nil, err
		}
		derived.OOMScoreAdj = &score
	}
	return json.Marshal(derived)
}

// PortForward joins stream to a port inside the pod until both directions have ended, or ctx has.
// ErrState when the pod is not Ready, ErrInvalid for a port that is none.
func (m *Manager) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	e, err := m.index.sandbox(id)
	if err != nil {
		return err
	}
	sb := *e.value.Load()
	if sb.State != pod.Ready {
		return fmt.Errorf("forward port %d of sandbox %s: %w: it is %s", port, sb.ID.Short(), pod.ErrState, sb.State)
	}
	if port < 1 || port > 65535 {
		return fmt.Errorf("forward port: %w: port %d is not in 1 to 65535", pod.ErrInvalid, port)
	}
	conn, err := network.Dial(ctx, sb.Namespaces.Net, port)
	if err != nil {
		return fmt.Errorf("forward port %d of sandbox %s: %w", port, sb.ID.Short(), err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() { // ends with the caller's stream, which nobody can interrupt
		io.Copy(conn, stream)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}()
	_, err = io.Copy(stream, conn)
	return err
}
