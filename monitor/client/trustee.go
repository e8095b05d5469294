package client

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Trustee is the process that holds descriptors of all containers beside their monitors
// and this daemon: whichever two of the three are killed, no pipe of a container breaks
// and its exit status stays known. It outlives this process. A nil Trustee holds
// nothing and is no error. It is safe for concurrent use.
type Trustee struct {
	dir, program string

	conn    *conn
	process *process // nil when an earlier daemon started it
	lost    chan struct{}
	reader  sync.WaitGroup
}

// OpenTrustee connects to the trustee in dir, or makes dir and starts one there.
func OpenTrustee(ctx context.Context, dir, program string) (*Trustee, error) {
	t := &Trustee{dir: dir, program: program, lost: make(chan struct{})}
	if err := t.open(ctx); err != nil {
		return nil, fmt.Errorf("open trustee in %s: %w", dir, err)
	}
	return t, nil
}

func (t *Trustee) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	if t.conn, err = dial(ctx, t.dir); err != nil {
		if err := t.start(); err != nil {
			return err
		}
	}
	t.reader.Add(1)
	if err := t.conn.begin(func(_ wire.Message, fds []int) { closeAll(fds) }, func() { close(t.lost); t.reader.Done() }); err != nil {
		return err
	}
	// Once it has answered it listens, and the next daemon will find it.
	if _, _, err := t.conn.call(ctx, &wire.Message{Kind: wire.Recall}, nil); err != nil {
		t.Close()
		return err
	}
	return nil
}

// start runs a new one.
func (t *Trustee) start() error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make control socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "trustee")
	defer theirs.Close()
	if t.process, err = fork(t.program, t.dir, "", []string{"vitrine-monitor", t.dir, wire.TrusteeArgument}, theirs); err != nil {
		syscall.Close(pair[0])
		return err
	}
	t.conn, err = connFromFD(pair[0])
	return err
}

// Lost is closed when the trustee was killed, or after Close.
func (t *Trustee) Lost() <-chan struct{} { return t.lost }

// Close ends the connection. The trustee lives on while it holds anything.
func (t *Trustee) Close() error {
	if t != nil {
		t.conn.close()
		t.reader.Wait()
	}
	return nil
}

// Entrust gives the trustee what this process was lent by the monitor of container id,
// until Revoke. The standard input of a container that has it once only is not given: the
// end of the attached client, which this daemon's death is, has to be its end.
func (t *Trustee) Entrust(id string, m *Monitor) error {
	if t == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	msg := wire.Message{Kind: wire.Entrust, Body: []byte(id)}
	var fds []int
	for _, one := range []struct {
		flag uint32
		fd   int
	}{{wire.FlagPidfd, m.lent.pidfd}, {wire.FlagStdin, m.lent.stdin}, {wire.FlagStdout, m.lent.stdout}, {wire.FlagStderr, m.lent.stderr}} {
		if one.fd >= 0 && (one.flag != wire.FlagStdin || !m.info.StdinOnce) {
			msg.Flags, fds = msg.Flags|one.flag, append(fds, one.fd)
		}
	}
	if len(fds) == 0 { // it has ended meanwhile
		return nil
	}
	m.trustee, m.ward = t, id
	if err := t.send(&msg, fds); err != nil {
		return fmt.Errorf("entrust %s: %w", id, err)
	}
	return nil
}

// Revoke has the trustee close what it holds of container id.
func (t *Trustee) Revoke(id string) error { return t.revoke(id, 0) }

func (t *Trustee) revoke(id string, flags uint32) error {
	if t == nil {
		return nil
	}
	if err := t.send(&wire.Message{Kind: wire.Revoke, Flags: flags, Body: []byte(id)}, nil); err != nil {
		return fmt.Errorf("revoke %s: %w", id, err)
	}
	return nil
}

// sendBound is how long a trustee that does not read may hold a sender up.
const sendBound = 100 * time.Millisecond

// send sends without waiting for an answer. One that does not read is given up.
func (t *Trustee) send(msg *wire.Message, fds []int) error {
	err := t.conn.sock.SetWriteDeadline(time.Now().Add(sendBound))
	if err == nil {
		err = t.conn.send(msg, fds)
	}
	if err != nil {
		t.conn.close()
	}
	return err
}

// Retain has Sweep spare container id.
func (t *Trustee) Retain(id string) error {
	if t == nil {
		return nil
	}
	if err := t.send(&wire.Message{Kind: wire.Recall, Body: []byte(id)}, nil); err != nil {
		return fmt.Errorf("retain %s: %w", id, err)
	}
	return nil
}

// Sweep has the trustee close what was neither entrusted, retained nor adopted by this process.
func (t *Trustee) Sweep(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if _, _, err := t.conn.call(ctx, &wire.Message{Kind: wire.Sweep}, nil); err != nil {
		return fmt.Errorf("sweep trustee: %w", err)
	}
	return nil
}

// Adopt is the function of that name for a container of which this process was lent
// nothing: its descriptors come from the trustee, as far as it has them.
func (t *Trustee) Adopt(ctx context.Context, id, dir, program, cgroup string) (*Monitor, error) {
	left := nothingLent
	if t != nil {
		reply, fds, err := t.conn.call(ctx, &wire.Message{Kind: wire.Recall, Body: []byte(id)}, nil)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("recall %s: %w", id, err)
		}
		for _, role := range []struct {
			flag uint32
			fd   *int
		}{{wire.FlagPidfd, &left.pidfd}, {wire.FlagStdin, &left.stdin}, {wire.FlagStdout, &left.stdout}, {wire.FlagStderr, &left.stderr}} {
			if reply.Flags&role.flag != 0 && len(fds) > 0 {
				*role.fd, fds = fds[0], fds[1:]
			}
		}
		closeAll(fds)
	}
	m, err := adopt(ctx, dir, program, cgroup, left.files())
	if err != nil {
		return nil, fmt.Errorf("adopt the container in %s: %w", dir, err)
	}
	return m, nil
}
