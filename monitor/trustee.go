package monitor

import (
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// trustee is a process of this program that stands beside no container. It holds, for
// all containers of a daemon, what their monitors and the daemon hold too: as long as
// one of the three lives, a container's pipes do not break and its exit status is known.
// It reads nothing, and ends when it holds nothing and no daemon is connected. One that
// is killed is replaced by the daemon, which entrusts everything anew.
type trustee struct {
	m     *monitor
	on    bool // this process is one
	alone bool // no daemon is connected
	wards []ward
}

// ward is what is held of one container. A place with an empty ID is free.
type ward struct {
	id   [wire.MaxWardID]byte
	size int   // of the ID; 0: nothing is held
	by   *conn // on which it was entrusted or recalled last
	fds  [len(wardRoles)]int32
}

// wardRoles are the flags for a ward's descriptors, in their order in messages.
var wardRoles = [...]uint32{wire.FlagPidfd, wire.FlagStdin, wire.FlagStdout, wire.FlagStderr}

// trusteeScore protects from the OOM killer: it belongs to no pod and is small.
const trusteeScore = -999

func (t *trustee) open(dir string) error {
	t.on = true
	if err := t.m.settle(); err != nil {
		return err
	}
	if err := syscall.Chdir(dir); err != nil {
		return err
	}
	protect(trusteeScore)
	raiseFileLimit()
	if err := t.m.control.listen(); err != nil {
		return err
	}
	syscall.CloseOnExec(wire.SocketFD)
	return t.m.control.first(wire.SocketFD)
}

// raiseFileLimit allows as many descriptors as may be had: there are four per container.
func raiseFileLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		// syscall.Setrlimit would remember the old limit for children; there are none.
		syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	}
}

func (t *trustee) empty() bool {
	for i := range t.wards {
		if t.wards[i].size > 0 {
			return false
		}
	}
	return true
}

// turn notices that the daemon has gone or come. Without it monitors that die are not
// replaced, so pipes have as much room as they can until it is back; see pipeSize.
func (t *trustee) turn() {
	alone := t.on && len(t.m.control.conns) == 0
	if alone == t.alone {
		return
	}
	t.alone = alone
	for i := range t.wards {
		for role, fd := range t.wards[i].fds {
			if fd >= 0 && wardRoles[role]&(wire.FlagStdout|wire.FlagStderr) != 0 {
				resize(int(fd), alone)
			}
		}
	}
}

func (t *trustee) handle(c *conn, msg *wire.Message, fds *descriptors) {
	var err *launch.Error
	switch msg.Kind {
	case wire.Entrust:
		err = t.entrust(c, msg, fds)
	case wire.Revoke:
		if w := t.find(msg.Body); w != nil {
			w.close(msg.Flags)
		}
	case wire.Recall:
		t.recall(c, msg)
		return
	case wire.Sweep:
		for i := range t.wards {
			if t.wards[i].by != c {
				t.wards[i].close(0)
			}
		}
	default:
		err = fault("trustee.request", launch.KindInvalid, "a trustee does not know this request")
	}
	if msg.ID != 0 {
		c.reply(msg.ID, err, nil)
	}
}

// entrust puts the descriptors that came along in the place of those it had.
func (t *trustee) entrust(c *conn, msg *wire.Message, fds *descriptors) *launch.Error {
	if len(msg.Body) == 0 || len(msg.Body) > wire.MaxWardID {
		return fault("trustee.entrust", launch.KindInvalid, "a container's ID has 1 to 64 bytes")
	}
	w := t.find(msg.Body)
	if w == nil {
		w = t.place()
	}
	w.close(0)
	w.size, w.by = copy(w.id[:], msg.Body), c
	for i, role := range wardRoles {
		if msg.Flags&role != 0 {
			w.fds[i] = int32(fds.take())
		}
	}
	return nil
}

func (t *trustee) recall(c *conn, msg *wire.Message) {
	reply := wire.Message{Kind: wire.Reply, ID: msg.ID}
	var fds [len(wardRoles)]int
	n := 0
	if w := t.find(msg.Body); w != nil {
		w.by = c
		for i, fd := range w.fds {
			if fd >= 0 {
				fds[n] = int(fd)
				reply.Flags |= wardRoles[i]
				n++
			}
		}
	}
	if msg.ID != 0 {
		c.sendAll(&reply, fds[:n])
	}
}

func (t *trustee) find(id []byte) *ward {
	for i := range t.wards {
		if w := &t.wards[i]; w.size > 0 && string(w.id[:w.size]) == string(id) {
			return w
		}
	}
	return nil
}

// place is a free one.
func (t *trustee) place() *ward {
	for i := range t.wards {
		if t.wards[i].size == 0 {
			return &t.wards[i]
		}
	}
	t.wards = append(t.wards, ward{fds: [...]int32{-1, -1, -1, -1}})
	return &t.wards[len(t.wards)-1]
}

// close gives up what the flags say, without flags the whole ward.
func (w *ward) close(flags uint32) {
	for i, role := range wardRoles {
		if w.fds[i] >= 0 && (flags == 0 || flags&role != 0) {
			syscall.Close(int(w.fds[i]))
			w.fds[i] = -1
		}
	}
	if flags == 0 {
		w.size, w.by = 0, nil
	}
}
