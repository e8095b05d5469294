package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Notified gets a value when ReadNotified has something new, once for all that is new.
func (m *Monitor) Notified() <-chan struct{} { return m.notified }

// Call is a system call that a container's seccomp filter left to its monitor.
type Call struct {
	// Number is of the table of Arch, an AUDIT_ARCH_ constant.
	Number      int
	Arch        uint32
	Count       uint64
	First, Last time.Time
	// PID, of the host's namespace, and Command are of the first that tried.
	PID     int
	Command string
	// Killed: the container was killed for it.
	Killed bool
}

// Stalled gets a value when the log's file system stopped answering, or answers again,
// which Stats tells, and at the first connection of a daemon.
func (m *Monitor) Stalled() <-chan struct{} { return m.stalled }

func (m *Monitor) lookAtLog() {
	select {
	case m.stalled <- struct{}{}:
	default: // somebody will look
	}
	m.tell()
}

// ReadNotified reads what the monitor of the container whose directory is dir was asked,
// in the order of time; lost counts what found no place. It can be read at any time,
// also when the monitor is gone. The error wraps os.ErrNotExist for a container without
// such a filter.
func ReadNotified(dir string) (calls []Call, lost uint64, err error) {
	raw, err := readBounded(dir+"/"+wire.NotifiedFile, wire.NotifiedSize)
	if err != nil {
		return nil, 0, fmt.Errorf("read notified system calls: %w", err)
	}
	var n wire.NotifiedTable
	if err := binary.Read(bytes.NewReader(raw), binary.NativeEndian, &n); err != nil || n.Magic != wire.NotifiedMagic || n.Used > wire.MaxNotified {
		return nil, 0, fmt.Errorf("read notified system calls of %s: %w", dir, wire.ErrMalformed)
	}
	for _, c := range n.Calls[:n.Used] {
		command, _, _ := bytes.Cut(c.Command[:], []byte{0})
		calls = append(calls, Call{
			Number: int(c.Syscall), Arch: c.Arch, Count: c.Count, First: time.Unix(0, c.First), Last: time.Unix(0, c.Last),
			PID: int(c.PID), Command: string(command), Killed: c.Killed != 0,
		})
	}
	return calls, n.Lost, nil
}
