// Package client is the daemon's side of a container's monitor: it starts one,
// finds it again after a restart of the daemon, and speaks the protocol of
// monitor/wire with it.
//
// A Monitor is a connection and what is known through it. The truth stands on disk:
// ReadExit reads the exit record whether or not a monitor or a connection lives.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// ErrLost is wrapped by calls whose connection to the monitor broke.
var ErrLost = errors.New("monitor is gone")

// Monitor is a running monitor. It is safe for concurrent use.
type Monitor struct {
	dir  string
	info wire.Info

	mu       sync.Mutex // guards what follows
	conn     *conn
	sessions map[uint32]*Session
	closed   bool
	exit     *wire.Exit
	lent     lent
	trustee  *Trustee // that holds the same, as ward; nil before
	ward     string

	declined atomic.Int32 // sessions in a row that vitrine-enter declined

	exited, lost chan struct{}
	notified     chan struct{} // holds one
	stalled      chan struct{} // holds one
	follower     atomic.Pointer[errand]
	readers      sync.WaitGroup // connections that have not ended
	process      *process       // nil when an earlier daemon started the monitor
}

// PID is the container's init.
func (m *Monitor) PID() int { return m.info.Init }

// MonitorPID is the monitor's own process.
func (m *Monitor) MonitorPID() int { return m.info.Monitor }

// Exited is closed when the exit record is on disk.
func (m *Monitor) Exited() <-chan struct{} { return m.exited }

// Lost is closed when the connection broke, could not be made again, and there is
// no exit record: the monitor was killed.
func (m *Monitor) Lost() <-chan struct{} { return m.lost }

// Follow has f called, now and whenever Exited, Lost, Notified or Stalled may have something
// new, until it returns false: never twice at a time, and by a goroutine that Close does not
// wait for. A monitor is followed once.
func (m *Monitor) Follow(f func() (more bool)) {
	over := false
	e := &errand{do: func() { over = over || !f() }}
	m.follower.Store(e)
	e.ask()
}

// tell has the follower look.
func (m *Monitor) tell() {
	if e := m.follower.Load(); e != nil {
		e.ask()
	}
}

// Exit is the exit record as the monitor told it; false before Exited.
func (m *Monitor) Exit() (wire.Exit, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exit == nil {
		return wire.Exit{}, false
	}
	return *m.exit, true
}

// StartContainer lets the init execute the user's program and returns when it has.
// A program that cannot be executed is a *launch.Error; the init has ended then.
func (m *Monitor) StartContainer(ctx context.Context) error {
	if _, _, err := m.request(ctx, &wire.Message{Kind: wire.Start}, nil); err != nil {
		return fmt.Errorf("start container %s: %w", m.info.ID, err)
	}
	return nil
}

// Signal sends sig to the container's init or, with all, to every process of the
// container. A container that has ended is a *launch.Error of KindGone.
func (m *Monitor) Signal(ctx context.Context, sig syscall.Signal, all bool) error {
	msg := &wire.Message{Kind: wire.Signal, Signal: uint32(sig)}
	if all {
		msg.Flags = wire.FlagAll
	}
	if _, _, err := m.request(ctx, msg, nil); err != nil {
		return fmt.Errorf("send %v to container %s: %w", sig, m.info.ID, err)
	}
	return nil
}

// ReopenLog makes the monitor open the log file's path anew. On an error the old
// file stays in use and no new one is left behind.
func (m *Monitor) ReopenLog(ctx context.Context) error {
	if _, _, err := m.request(ctx, &wire.Message{Kind: wire.Reopen}, nil); err != nil {
		return fmt.Errorf("reopen log of container %s: %w", m.info.ID, err)
	}
	return nil
}

// CloseStdin closes the container's standard input after what was written to it.
func (m *Monitor) CloseStdin(ctx context.Context) error {
	if _, _, err := m.request(ctx, &wire.Message{Kind: wire.CloseStdin}, nil); err != nil {
		return fmt.Errorf("close stdin of container %s: %w", m.info.ID, err)
	}
	return nil
}

// Resize sets the size of the container's terminal.
func (m *Monitor) Resize(ctx context.Context, width, height uint16) error {
	msg := &wire.Message{Kind: wire.Resize, Width: width, Height: height}
	if _, _, err := m.request(ctx, msg, nil); err != nil {
		return fmt.Errorf("resize terminal of container %s: %w", m.info.ID, err)
	}
	return nil
}

// Stats asks for the monitor's counters.
func (m *Monitor) Stats(ctx context.Context) (wire.Counters, error) {
	var c wire.Counters
	reply, _, err := m.request(ctx, &wire.Message{Kind: wire.Stats}, nil)
	if err == nil {
		err = c.Parse(reply.Body)
	}
	if err != nil {
		return c, fmt.Errorf("counters of container %s: %w", m.info.ID, err)
	}
	return c, nil
}

// Shutdown ends the monitor of a container that has ended: it runs the launcher's
// delete, removes its socket, and exits. It returns when the monitor has said so.
// A monitor that is gone already is success. The container must have ended;
// otherwise the error is a *launch.Error of KindInvalid.
func (m *Monitor) Shutdown(ctx context.Context) error { return m.shutdown(ctx, 0) }

// Destroy is Shutdown for a container that may still run: it is killed first.
func (m *Monitor) Destroy(ctx context.Context) error { return m.shutdown(ctx, wire.FlagForce) }

func (m *Monitor) shutdown(ctx context.Context, flags uint32) error {
	_, _, err := m.request(ctx, &wire.Message{Kind: wire.Shutdown, Flags: flags}, nil)
	if err != nil && !errors.Is(err, ErrLost) {
		return fmt.Errorf("shut down monitor of container %s: %w", m.info.ID, err)
	}
	if m.process != nil {
		if err := m.process.wait(ctx); err != nil {
			return fmt.Errorf("shut down monitor of container %s: %w", m.info.ID, err)
		}
	}
	return m.Close()
}

// Close closes the connection and nothing else: container and monitor live on.
func (m *Monitor) Close() error {
	m.mu.Lock()
	m.closed = true
	c := m.conn
	m.lent.close()
	m.mu.Unlock()
	c.close()
	m.readers.Wait()
	return nil
}

// ReadExit reads the exit record of the container whose directory is dir. The error
// wraps os.ErrNotExist when there is none.
func ReadExit(dir string) (wire.Exit, error) {
	raw, err := readBounded(dir+"/"+wire.ExitFile, wire.MaxExit)
	if err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record: %w", err)
	}
	e, err := wire.ParseExit(string(raw))
	if err != nil {
		return wire.Exit{}, fmt.Errorf("read exit record of %s: %w", dir, err)
	}
	return e, nil
}

// request sends msg under ctx's traceparent and turns an error reply into its
// *launch.Error.
func (m *Monitor) request(ctx context.Context, msg *wire.Message, files []int) (wire.Message, []int, error) {
	if msg.Traceparent == "" {
		msg.Traceparent = traceparent(ctx)
	}
	m.mu.Lock()
	c := m.conn
	m.mu.Unlock()
	reply, fds, err := c.call(ctx, msg, files)
	if err != nil {
		return reply, fds, err
	}
	if reply.Flags&wire.FlagError != 0 {
		closeAll(fds)
		return reply, nil, replyError(reply.Body)
	}
	return reply, fds, nil
}

func replyError(body []byte) error {
	r, err := launch.ParseReply(string(body))
	if err != nil {
		return err
	}
	if r.Error == nil {
		return launch.ErrReply
	}
	return r.Error
}

type traceparentKey struct{}

// WithTraceparent returns a context whose requests carry the W3C trace context tp
// to the monitor, which parents its spans under it.
func WithTraceparent(ctx context.Context, tp string) context.Context {
	return context.WithValue(ctx, traceparentKey{}, tp)
}

func traceparent(ctx context.Context) string {
	tp, _ := ctx.Value(traceparentKey{}).(string)
	return tp
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}

func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return raw, nil
}
