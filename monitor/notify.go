package monitor

import (
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// notifier answers system calls that the container's seccomp filter leaves to user space
// (seccomp_unotify(2)). The runtime brings the listener of each filter, the init's and
// each exec's, to the socket that the OCI specification's listenerPath names. Every call
// is refused with EPERM, at once and whoever else is there, and counted in shared memory
// (wire.NotifiedTable); telling the daemon is only a hint.
//
// A listener's duplicates are lent to the daemon: while a killed monitor is replaced its
// container waits in the call, and gets its answer from the next one. When nobody holds a
// listener any more, the kernel answers ENOSYS: a container never hangs for good.
type notifier struct {
	m         *monitor
	socket    int // where runtimes come; -1
	listeners []*listener
	last      uint32 // number given to a listener
	calls     *wire.NotifiedTable
	toldAt    int64 // of uptime
	late      timer
	answer    notificationAnswer
	// broken are calls that were counted, and whose threads a signal took out of the wait
	// for the answer: such a thread makes the same call again, which is not another one.
	// The kernel can be asked to hold signals back (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
	// Linux 5.19), but a handler's runtime has to know how. next is the next one's place.
	broken [8]wire.Notification
	next   int
}

// listener is one filter's.
type listener struct {
	m   *monitor
	fd  int
	num uint32
	// first is the process that put the filter in force: a runtime's init, until it has
	// executed the program that was asked for. Its pid is 0 when that is not known.
	first process
}

// notificationAnswer is struct seccomp_notif_resp of include/uapi/linux/seccomp.h.
type notificationAnswer struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifyReceive = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifySend    = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND

	// notifyEvery bounds how often the daemon is told that known calls go on, in
	// milliseconds. A call that is new is told at once.
	notifyEvery = 1000
)

// open makes the socket and the file of counts in the working directory, or goes on with
// the file that is there.
func (n *notifier) open() error {
	if n.m.config.Notify == wire.NotifyNone {
		return nil
	}
	if err := n.count(); err != nil {
		return err
	}
	fd, err := listenAt(wire.NotifyFile, syscall.SOCK_STREAM)
	if err != nil {
		return err
	}
	n.socket = fd
	n.m.watch(fd, syscall.EPOLLIN, n)
	return nil
}

// count maps the file.
func (n *notifier) count() error {
	fd, err := syscall.Open(wire.NotifiedFile, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Ftruncate(fd, int64(wire.NotifiedSize)); err != nil {
		return err
	}
	file, err := syscall.Mmap(fd, 0, wire.NotifiedSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	n.calls = (*wire.NotifiedTable)(unsafe.Pointer(&file[0]))
	n.calls.Magic = wire.NotifiedMagic
	n.late.fire = n.tell
	n.m.timers = append(n.m.timers, &n.late)
	return nil
}

// resume goes on after the program was replaced, when everything was carried.
func (n *notifier) resume() {
	if n.m.config.Notify == wire.NotifyNone {
		return
	}
	if err := n.count(); err != nil {
		complain("notified", err)
	}
	if n.socket >= 0 {
		n.m.watch(n.socket, syscall.EPOLLIN, n)
	}
	for _, l := range n.listeners {
		n.m.watch(l.fd, syscall.EPOLLIN, l)
	}
}

// ready accepts runtimes, of root and of the monitor's own user.
func (n *notifier) ready(uint32) {
	for {
		fd, _, err := syscall.Accept4(n.socket, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		if !mayConnect(fd) {
			syscall.Close(fd)
			continue
		}
		n.m.watch(fd, syscall.EPOLLIN, &bearer{n.m, fd})
	}
}

// bearer is a runtime's connection. It brings a listener, and the state of the process as
// JSON (OCI runtime specification, "Container Process State").
type bearer struct {
	m  *monitor
	fd int
}

func (b *bearer) ready(uint32) {
	var fds [4]int
	n, got, e := receive(b.fd, b.m.scratch, &fds)
	if e == syscall.EAGAIN || e == syscall.EINTR {
		return
	}
	first, _ := look(int(pidOf(b.m.scratch[:n])))
	for _, fd := range fds[:got] {
		b.m.notify.add(fd, first)
	}
	b.m.drop(&b.fd)
}

// pidOf finds the first pid in a process's state, 0 for none: the process's own stands
// before that of the container's init.
func pidOf(state []byte) (pid uint64) {
	const key = `"pid":`
	text := unsafe.String(unsafe.SliceData(state), len(state))
	at := strings.Index(text, key)
	if at < 0 {
		return 0
	}
	text = strings.TrimLeft(text[at+len(key):], " ")
	for i := 0; i < min(len(text), 10) && text[i] >= '0' && text[i] <= '9'; i++ {
		pid = 10*pid + uint64(text[i]-'0')
	}
	return pid
}

// runtime reports whether it is still the runtime's init that calls, which is not what
// the profile's author wants to hear of: forked, as every init is, and not yet executed.
func (l *listener) runtime() bool {
	now, ok := look(l.first.pid)
	return l.first.pid != 0 && ok && now.began == l.first.began && now.flags&pfForkNoExec != 0
}

// add takes a listener over.
func (n *notifier) add(fd int, first process) {
	n.last++
	l := &listener{n.m, fd, n.last, first}
	n.listeners = append(n.listeners, l)
	n.m.watch(fd, syscall.EPOLLIN, l)
	if n.calls != nil && n.calls.Asked.ID != 0 { // a killed monitor had it in hand
		l.settle()
	}
	for i := len(n.m.control.conns) - 1; i >= 0; i-- { // send may remove the connection
		if c := n.m.control.conns[i]; c.lends {
			c.send(&wire.Message{Kind: wire.Listener, Session: l.num}, l.fd)
		}
	}
}

// lend sends all listeners to a connection that asked for what it can be lent.
func (n *notifier) lend(c *conn) {
	for _, l := range n.listeners {
		c.send(&wire.Message{Kind: wire.Listener, Session: l.num}, l.fd)
	}
}

// ready answers one call; the loop comes back while there are more.
func (l *listener) ready(events uint32) {
	m := l.m
	n := &m.notify
	m.active = true
	if events&syscall.EPOLLIN == 0 { // no process has the filter any more
		l.end()
		return
	}
	if n.calls == nil { // the file could not be mapped; the call waits for another monitor
		m.unwatch(l.fd)
		return
	}
	if l.take() {
		l.settle()
		n.unanswered()
	}
}

// take receives a call.
func (l *listener) take() bool {
	n := &l.m.notify
	n.unanswered()                                          // a killed monitor's
	n.calls.Counted, n.calls.Asked = 0, wire.Notification{} // the kernel wants zeros
	if ioctl(l.fd, notifyReceive, unsafe.Pointer(&n.calls.Asked)) != 0 {
		n.calls.Asked.ID = 0 // its process was killed or interrupted; it asks again
		return false
	}
	return true
}

// unanswered has done with a call for whose answer nobody waited: its process was killed,
// or interrupted and asks again.
func (n *notifier) unanswered() {
	if a := &n.calls.Asked; a.ID != 0 && n.calls.Counted != 0 {
		n.broken[n.next] = *a
		n.next = (n.next + 1) % len(n.broken)
	}
	n.calls.Asked.ID = 0
}

// again reports whether the call in hand is one of broken, which it then is no more.
func (n *notifier) again() bool {
	for i := range n.broken {
		b, a := &n.broken[i], &n.calls.Asked
		if b.PID == a.PID && b.Syscall == a.Syscall && b.Arch == a.Arch && b.IP == a.IP && b.Args == a.Args {
			b.PID = 0
			return true
		}
	}
	return false
}

// settle counts and answers the call in hand, whose ID becomes 0, unless nobody waits for
// its answer any more.
func (l *listener) settle() {
	m := l.m
	n := &m.notify
	own := l.runtime()
	kill := m.config.Notify == wire.NotifyKill && !own
	if n.calls.Counted == 0 && !own {
		if !n.again() {
			n.note(kill)
		}
		n.calls.Counted = 1
	}
	if kill {
		if err := m.init.signal(syscall.SIGKILL, true); err != nil {
			complain("kill for a refused system call", err)
		}
	}
	n.answer = notificationAnswer{id: n.calls.Asked.ID, errno: -int32(syscall.EPERM)}
	// A process that is gone needs no answer; that of another listener has another ID.
	if ioctl(l.fd, notifySend, unsafe.Pointer(&n.answer)) == 0 {
		n.calls.Asked.ID = 0
	}
}

func (l *listener) end() {
	n := &l.m.notify
	for i, other := range n.listeners {
		if other == l {
			n.listeners = append(n.listeners[:i], n.listeners[i+1:]...)
			break
		}
	}
	l.m.drop(&l.fd)
	l.m.control.tell(&wire.Message{Kind: wire.ListenerEnded, Session: l.num})
}

// note counts the call that is asked about.
func (n *notifier) note(kill bool) {
	at, a := now(), &n.calls.Asked
	used := min(n.calls.Used, wire.MaxNotified)
	for i := range n.calls.Calls[:used] {
		if c := &n.calls.Calls[i]; c.Syscall == a.Syscall && c.Arch == a.Arch {
			c.Last = at
			atomic.AddUint64(&c.Count, 1)
			if kill {
				c.Killed = 1
			}
			n.tellSoon()
			return
		}
	}
	if used == wire.MaxNotified {
		atomic.AddUint64(&n.calls.Lost, 1)
		n.tellSoon()
		return
	}
	c := &n.calls.Calls[used]
	*c = wire.NotifiedCall{Count: 1, First: at, Last: at, Arch: a.Arch, Syscall: a.Syscall, PID: a.PID}
	if kill {
		c.Killed = 1
	}
	comm := readSmall(procPath(int(a.PID), "/comm"), pad[:64])
	if len(comm) > 0 && comm[len(comm)-1] == '\n' {
		comm = comm[:len(comm)-1]
	}
	copy(c.Command[:len(c.Command)-1], comm)
	atomic.StoreUint64(&n.calls.Used, used+1)
	n.tell()
}

// tellSoon tells at most every notifyEvery, the last time for certain.
func (n *notifier) tellSoon() {
	if uptime()-n.toldAt >= notifyEvery*1e6 {
		n.tell()
	} else if n.late.at == 0 {
		n.late.set(notifyEvery)
	}
}

func (n *notifier) tell() {
	n.toldAt, n.late.at = uptime(), 0
	n.m.control.tell(&wire.Message{Kind: wire.Notified})
}
