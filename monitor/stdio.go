package monitor

import (
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
)

// A stream's pipe holds what pipes do until more than half of that was found in it at
// once, then wideSize, where the kernel allows it, until the stream has paused; and while
// there is no daemon to replace a monitor that dies (trustee). It is not
// wide for good because the kernel adds up the pipes of a user, whoever holds them, and
// gives new ones two pages once they have 64 MiB (pipe(7), pipe-user-pages-soft) unless
// their maker has CAP_SYS_RESOURCE: the pipelines of all containers that run as root would
// be slow on a node of forty pods.
const (
	pipeSize = 64 << 10
	wideSize = 1 << 20
)

// readsPerTurn bounds how much of one stream is read before others have their turn.
const readsPerTurn = 8

// stream is stdout or stderr of the container; the terminal counts as stdout.
type stream struct {
	m      *monitor
	fd     int // -1 at its end
	stderr bool
	lines  *logfile.Stream
	held   hold
	pipe   uint64 // its inode, by which the container's side of it is known
	wide   bool
}

// ends are the process's ends of its standard streams.
type ends struct{ streams }

func (e *ends) close() {
	for _, fd := range [...]*int{&e.stdin, &e.stdout, &e.stderr, &e.exec, &e.gate} {
		closeFD(fd)
	}
}

// openStreams makes the container's standard streams. With a terminal, the launcher's
// own stderr is all there is.
func (m *monitor) openStreams() (e ends, err error) {
	e.streams = noStreams
	if m.config.Terminal {
		if m.init.words.fd, e.stderr, err = outputPipe(); err == nil {
			m.watch(m.init.words.fd, syscall.EPOLLIN, &m.init.words)
		}
		return e, err
	}
	if m.config.Stdin {
		var pipe [2]int
		if err = syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
			return e, err
		}
		e.stdin = pipe[0]
		syscall.SetNonblock(pipe[1], true)
		m.stdin.fd, m.stdin.pipe = pipe[1], inode(pipe[1])
	}
	for i, theirs := range [...]*int{&e.stdout, &e.stderr} {
		s := &m.streams[i]
		if s.fd, *theirs, err = outputPipe(); err != nil {
			return e, err
		}
		s.pipe = inode(s.fd)
		m.watch(s.fd, syscall.EPOLLIN, s)
	}
	return e, nil
}

func outputPipe() (ours, theirs int, err error) {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	syscall.SetNonblock(pipe[0], true)
	return pipe[0], pipe[1], nil
}

// ready reads until there is little. What comes meanwhile is the next turn's.
func (s *stream) ready(uint32) {
	for range readsPerTurn {
		n := s.readOnce()
		if n > pipeSize/2 {
			s.size(true)
		}
		if s.pause() || n < len(s.m.scratch) {
			return
		}
	}
}

// size makes the pipe wide, or narrow again.
func (s *stream) size(wide bool) {
	if s.wide != wide && s.fd >= 0 {
		resize(s.fd, wide)
		s.wide = wide
	}
}

// resize makes a pipe wide or narrow, unless there is more in it than it could hold. Of
// anything else, such as a terminal, the kernel refuses it.
func resize(pipe int, wide bool) {
	size := uintptr(pipeSize)
	if wide {
		size = wideSize
	}
	syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(pipe), fSetPipeSize, size)
}

// drain reads until there is nothing, at most the given number of times.
func (s *stream) drain(reads int) {
	for range reads {
		if s.readOnce() == 0 {
			return
		}
	}
}

// readOnce reads and passes on; 0 when nothing is there for now or ever.
func (s *stream) readOnce() int {
	if s.fd < 0 {
		return 0
	}
	data, e := s.m.ledger.read(s)
	n := len(data)
	if n > 0 {
		s.m.output(s, data)
		s.m.ledger.done()
	} else if e != syscall.EAGAIN { // end of file; EIO from a terminal that nobody holds
		s.end()
	}
	return n
}

// output is where the container's output goes.
func (m *monitor) output(s *stream, data []byte) {
	at := now()
	m.active = true
	if s.stderr || m.config.Terminal {
		if m.init.state < running {
			m.init.words.keep(data)
		}
	}
	if m.init.state == creating { // the launcher's own words
		write(2, data)
		return
	}
	if m.report.firstAt == 0 && m.init.state >= starting {
		m.report.firstOutput(at)
	}
	if m.guard.away {
		m.log.Drop(s.lines, data)
	} else {
		m.log.Write(s.lines, at, data)
	}
	m.sinks.write(s, at, data)
	for i := len(m.clients) - 1; i >= 0; i-- { // a client may be removed on the way
		m.clients[i].show(s, data)
	}
}

func (s *stream) end() {
	s.m.drop(&s.fd)
	if s.m.log != nil && s.m.guard.away {
		s.m.guard.ended[s.index()] = true
		s.m.sinks.end(s)
	} else if s.m.log != nil {
		s.m.ledger.begin(s.index(), 0)
		s.m.log.End(s.lines, now())
		s.m.ledger.done()
		s.m.sinks.end(s)
	}
}

// tty is the container's terminal.
type tty struct {
	m      *monitor
	master int
	peer   int // the other side, held so that the master never hangs up while the container lives
}

// open takes the master over from the launcher's run.
func (t *tty) open(r *run) syscall.Errno {
	if r.master < 0 {
		return syscall.ENOTTY
	}
	t.master, r.master = r.master, -1
	syscall.SetNonblock(t.master, true)
	t.sane()
	t.hold()
	if t.m.config.Stdin {
		in, err := dup(t.master) // its own registration in the loop
		if err != 0 {
			return err
		}
		t.m.stdin.fd, t.m.stdin.tty = in, true
	}
	t.m.streams[0].fd = t.master
	t.m.watch(t.master, syscall.EPOLLIN, &t.m.streams[0])
	return 0
}

// hold opens the terminal's other side.
func (t *tty) hold() {
	peer, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(t.master), tiocgptpeer, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if e == 0 {
		t.peer = int(peer)
	}
}

// sane makes the terminal turn line feeds into carriage return and line feed, as
// every other runtime's does.
func (t *tty) sane() {
	var attr syscall.Termios
	if ioctl(t.master, syscall.TCGETS, unsafe.Pointer(&attr)) == 0 && attr.Oflag&syscall.ONLCR == 0 {
		attr.Oflag |= syscall.ONLCR
		ioctl(t.master, syscall.TCSETS, unsafe.Pointer(&attr))
	}
}

func dup(fd int) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	return int(n), e
}

// hangUp lets the master see the end of the container's processes.
func (t *tty) hangUp() { closeFD(&t.peer) }
