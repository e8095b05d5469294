package monitor

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// lend sends a reply with duplicates of the container's streams, if they were asked for. As long as someone
// holds them, the death of this monitor breaks no pipe: what the container writes
// waits there for the next monitor.
func (m *monitor) lend(c *conn, msg *wire.Message, asked uint32) {
	if asked&wire.FlagLend == 0 {
		c.send(msg, -1)
		return
	}
	c.lends = true
	defer m.notify.lend(c)
	var fds [4]int
	n := 0
	add := func(fd int, flag uint32) {
		if fd >= 0 {
			fds[n], msg.Flags = fd, msg.Flags|flag
			n++
		}
	}
	if !m.stdin.tty { // a terminal's is its master, which goes as stdout
		add(m.stdin.fd, wire.FlagStdin)
	}
	add(m.streams[0].fd, wire.FlagStdout)
	add(m.streams[1].fd, wire.FlagStderr)
	if m.init.state == created {
		add(m.init.verdict, 0)
	}
	c.sendAll(msg, fds[:n])
}

// adopt takes over the container whose monitor died: from the ledger in dir, the
// descriptors that were handed over, and what the container itself holds open.
// given has a 1 for each descriptor that was handed over, from wire.AdoptPidfd on.
func (m *monitor) adopt(dir, given string) error {
	fds := [...]int{-1, -1, -1, -1, -1}
	for i := range min(len(given), len(fds)) {
		if given[i] == '1' {
			fds[i] = handedOver(wire.AdoptPidfd + i)
		}
	}
	pidfd, stdin, stdout, stderr, verdict := fds[0], fds[1], fds[2], fds[3], fds[4]
	if err := m.settle(); err != nil {
		return err
	}
	if err := syscall.Chdir(dir); err != nil {
		return err
	}
	if err := m.recall(); err != nil {
		return err
	}
	protect(m.config.OOMScoreAdj)
	c := &m.init
	c.orphan, c.pidfd, c.verdict = true, pidfd, verdict
	if c.state > created {
		closeFD(&c.verdict)
	}
	for i, given := range [...]int{stdout, stderr} {
		s := &m.streams[i]
		s.wide = true // perhaps; the one before knew
		if s.fd = given; s.fd < 0 {
			s.fd = c.reopen(s.pipe, syscall.O_RDONLY)
		}
	}
	m.takeStdin(stdin)
	if m.config.Terminal && m.streams[0].fd >= 0 {
		m.tty.master = m.streams[0].fd
		m.tty.hold()
	}
	if err := m.recoverLog(); err != nil {
		return err
	}
	if err := m.control.listen(); err != nil {
		return err
	}
	syscall.CloseOnExec(wire.SocketFD)
	if err := m.control.first(wire.SocketFD); err != nil {
		return err
	}
	m.rejoin()
	if err := m.notify.open(); err != nil {
		complain("notify", err)
	}
	for i := len(fds); i < min(len(given), len(fds)+wire.MaxListeners); i++ {
		if given[i] == '1' {
			m.notify.add(handedOver(wire.AdoptPidfd+i), process{})
		}
	}
	m.ledger.keep()
	return nil
}

// recall makes the monitor what the ledger says, without what died with the process.
func (m *monitor) recall() error {
	fd, err := syscall.Open(wire.LedgerFile, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	j := &m.ledger
	if st.Size < tailsOffset || st.Size > tailsOffset+4*logfile.MaxMaxLine {
		return syscall.EINVAL
	}
	if err := j.open(fd, int(st.Size)); err != nil {
		return err
	}
	state := j.base()
	if state == nil {
		return wire.ErrMalformed
	}
	if _, err := m.decodeState(state); err != nil {
		return err
	}
	j.fd = fd
	if j.size() != int(st.Size) {
		return wire.ErrMalformed
	}
	if m.init.state < created || m.init.state >= dead {
		return fault("monitor.adopt", "invalid", "the container is not one to adopt: it ended or never was")
	}
	m.control.listener, m.control.conns = -1, m.room.conns[:0]
	m.clients, m.execs, m.upgrade.waiter = nil, nil, waiter{}
	m.report.spool = spool{}
	m.sinks.forget()
	m.notify.socket, m.notify.listeners = -1, nil
	m.tty.peer = -1
	return nil
}

// takeStdin takes the container's standard input over. What its last monitor had
// read from clients and the container had not is lost.
func (m *monitor) takeStdin(given int) {
	in := &m.stdin
	had := in.fd >= 0
	in.off, in.len, in.armed = 0, 0, false
	switch in.fd = given; {
	case !had || in.closing:
		closeFD(&in.fd)
	case in.tty && m.streams[0].fd >= 0:
		closeFD(&in.fd)
		in.fd, _ = dup(m.streams[0].fd)
	case in.fd < 0 && in.pipe != 0:
		in.fd = m.init.reopen(in.pipe, syscall.O_WRONLY)
	}
}

// handedOver is fd with its flags set as this process needs them.
func handedOver(fd int) int {
	closeOnExec(fd, true)
	syscall.SetNonblock(fd, true)
	return fd
}

// maxReopen bounds the descriptors of the init among which a pipe is looked for.
const maxReopen = 64

// reopen opens the other end of a pipe that the init has open, by its inode number.
// This is the way when nobody held the monitor's end; the container may have been
// told of a broken pipe meanwhile.
func (c *container) reopen(pipe uint64, flags int) int {
	if pipe == 0 {
		return -1
	}
	want := "pipe:[" + strconv.FormatUint(pipe, 10) + "]"
	var buf [64]byte
	for fd := range maxReopen {
		path := "/proc/" + itoa(c.pid) + "/fd/" + itoa(fd)
		if n, err := syscall.Readlink(path, buf[:]); err != nil || string(buf[:n]) != want {
			continue
		}
		if opened, err := syscall.Open(path, flags|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0); err == nil {
			return opened
		}
	}
	return -1
}

func inode(fd int) uint64 {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// recoverLog goes on with the log at the byte where the last monitor stopped.
func (m *monitor) recoverLog() error {
	h, size, file, err := m.ledger.handover()
	if err != nil {
		return err
	}
	stream, data := m.ledger.inHand()
	lost := logfile.Lost{Handover: h, Size: size, Inode: file, Stream: stream, Data: data}
	recovered, err := logfile.Recover(m.config.LogPath, m.config.LogTrusted, m.config.LogMaxLine, &lost, now(), m.streams[0].lines, m.streams[1].lines)
	if err == nil {
		m.log, recovered.Guard = recovered, &m.guard
	}
	return err
}

// watchOrphan waits for the end of an init that is not this process's child.
func (c *container) watchOrphan() {
	if c.pidfd < 0 {
		if fd, e := pidfdOpen(c.pid); e == 0 {
			if p, _ := look(c.pid); p.began == c.born {
				c.pidfd = fd
			} else {
				syscall.Close(fd)
			}
		}
	}
	if c.pidfd >= 0 {
		c.m.watch(c.pidfd, syscall.EPOLLIN, (*orphan)(c))
		return
	}
	(*orphan)(c).ended(0, wire.SourceUnknown) // it ended while nobody looked
}

// orphan is an init whose parent is not this monitor.
type orphan container

// ready is called when the init has ended.
func (o *orphan) ready(uint32) {
	status, source := o.status()
	o.ended(status, source)
}

func (o *orphan) ended(status uint32, source string) {
	c := (*container)(o)
	c.ending()
	c.m.drop(&c.pidfd)
	c.exit.Source = source
	c.exited(status, &c.m.procs.usage) // all zero: nobody but a parent learns of its use
}

// status is how the init ended, from the kernel's own words and in this order: the
// pidfd, which knows once the process is reaped (Linux 6.15); the zombie, until it
// is. Nothing is invented: SourceUnknown is an answer.
func (o *orphan) status() (uint32, string) {
	for range 3 { // it may be reaped between two looks
		if status, ok := pidfdExit(o.pidfd); ok {
			return status, wire.SourcePidfd
		}
		if status, ok := zombieStatus(o.pid, o.born); ok {
			return status, wire.SourcePidfd
		}
	}
	if lastExit != nil {
		if status, ok := lastExit((*container)(o)); ok {
			return status, wire.SourceTracepoint
		}
	}
	return 0, wire.SourceUnknown
}

// lastExit looks the exit status up in the pinned map of the exit tracepoint, for
// kernels whose pidfds do not know it. nil while no such map is handed to monitors.
var lastExit func(*container) (status uint32, ok bool)

// pidfdExit asks a pidfd for the wait status of its process (ioctl PIDFD_GET_INFO,
// struct pidfd_info of include/uapi/linux/pidfd.h).
func pidfdExit(pidfd int) (status uint32, ok bool) {
	const (
		getInfo  = 0xc040ff0b // _IOWR(0xff, 11, 64 bytes)
		infoExit = 1 << 3     // PIDFD_INFO_EXIT
	)
	var info struct {
		mask, cgroup uint64
		_            [11]uint32
		exitCode     uint32
	}
	info.mask = infoExit
	e := ioctl(pidfd, getInfo, unsafe.Pointer(&info))
	return info.exitCode, e == 0 && info.mask&infoExit != 0
}

// zombieStatus reads the wait status of a process that has ended and is not reaped:
// field 52 of proc_pid_stat(5).
func zombieStatus(pid int, born uint64) (status uint32, ok bool) {
	text := readSmall(procPath(pid, "/stat"), pad[:4096])
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return 0, false
	}
	field, zombie, same := 2, false, false
	for word := range strings.FieldsSeq(text[end+1:]) {
		switch field++; field {
		case 3:
			zombie = word == "Z"
		case 22:
			same = number(word) == born
		case 52:
			return uint32(number(word)), zombie && same
		}
	}
	return 0, false
}
