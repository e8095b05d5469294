package monitor

import (
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// What a monitor program is called with, beside the container's directory:
//
//	vitrine-monitor DIR                 begin, on the connection in descriptor 3
//	vitrine-monitor try                 say whether the state on stdin can be read
//	vitrine-monitor DIR resume STATE    go on from the state in descriptor STATE
//	vitrine-monitor DIR adopt GIVEN     take over from a monitor that died; see adopt.go
//	vitrine-monitor DIR trustee         hold descriptors; see trustee.go
const (
	tryArgument    = "try"
	resumeArgument = "resume"
	adoptArgument  = "adopt"
	// tryAnswer, with the container's ID behind it, is the whole answer of a program
	// that can go on: exit status 0 alone would be any program's.
	tryAnswer = "vitrine-monitor can resume "
)

const (
	// upgradeBound is how long an upgrade may wait for its trial, and then for what is
	// under way (a start, an exec that begins, a delivery) to end, in milliseconds each.
	upgradeBound = 10000
	maxAnswer    = 512
)

// upgrade replaces the program of this process by execve: pid, children and
// descriptors stay, the state travels in a memfd. What is in the pipes stays there.
//
//	asked ──► trial: the new program reads the state of this moment, in a child
//	      ──► calm: nothing is under way that lives in this image alone
//	      ──► execve ──► the new program answers the request
//
// Up to the execve everything can fail and changes nothing.
type upgrade struct {
	m       *monitor
	waiter  waiter
	count   uint64 // replacements so far
	program int    // the new program; what was tried is what is executed
	answer  int    // read end of the trial's stdout
	pid     int    // the trial, until it is reaped
	text    []byte
	passed  bool
	late    timer
}

// begin answers an Upgrade request that cannot even be tried.
func (u *upgrade) begin(from *conn, msg *wire.Message) {
	if err := u.prepare(from, msg); err != nil {
		from.reply(msg.ID, err, nil)
	}
}

func (u *upgrade) prepare(from *conn, msg *wire.Message) *launch.Error {
	if u.program >= 0 {
		return upgradeFault(launch.KindInvalid, "another upgrade is under way")
	}
	if u.m.init.state == none {
		return upgradeFault(launch.KindInvalid, "there is no container")
	}
	path := string(msg.Body)
	if path == "" || path[0] != '/' {
		return upgradeFault(launch.KindInvalid, "the program's path "+path+" is not absolute")
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return upgradeFault(launch.KindNotFound, "open "+path+": "+err.Error())
	}
	u.program = fd
	u.waiter = waiter{conn: from, id: msg.ID, since: now()}
	if err := u.try(); err != nil {
		u.end()
		return upgradeFault(launch.KindInvalid, "run "+path+": "+err.Error())
	}
	u.late = timer{fire: u.expired}
	u.late.set(upgradeBound)
	u.m.timers = append(u.m.timers, &u.late)
	return nil
}

// try runs the new program in a child with the state of this moment.
func (u *upgrade) try() error {
	state, _ := u.m.encodeState()
	memory, err := memfd(state)
	if err != nil {
		return err
	}
	defer syscall.Close(memory)
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	defer syscall.Close(pipe[1])
	syscall.SetNonblock(pipe[0], true)
	u.answer = pipe[0]
	pid, err := syscall.ForkExec(u.path(), []string{"vitrine-monitor", tryArgument}, &syscall.ProcAttr{
		Env:   syscall.Environ(),
		Files: []uintptr{uintptr(memory), uintptr(pipe[1]), 2},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return err
	}
	u.pid, u.text = pid, u.text[:0]
	u.m.watch(u.answer, syscall.EPOLLIN, u)
	u.m.procs.adopt(pid, u)
	return nil
}

func (u *upgrade) path() string { return "/proc/self/fd/" + itoa(u.program) }

// ready reads the trial's answer.
func (u *upgrade) ready(uint32) {
	for u.answer >= 0 {
		var buf [maxAnswer]byte
		n, e := read(u.answer, buf[:])
		if e == syscall.EAGAIN {
			return
		}
		if n == 0 || len(u.text) > maxAnswer {
			u.m.drop(&u.answer)
			return
		}
		u.text = append(u.text, buf[:n]...)
	}
}

// exited is called when the trial has ended.
func (u *upgrade) exited(status uint32, _ *syscall.Rusage) {
	u.pid = 0
	u.ready(0)
	u.m.drop(&u.answer)
	if want := tryAnswer + u.m.config.ID + "\n"; status == 0 && string(u.text) == want {
		u.passed = true
		u.late.set(upgradeBound)
		return
	}
	words := tail{text: u.text}
	message := "the new program did not pass its trial (" + describe(status) + ")"
	if line := words.line(); line != "" {
		message += ": " + line
	}
	u.fail(upgradeFault(launch.KindInvalid, message))
}

// expired is called when the trial, or what is under way, takes too long.
func (u *upgrade) expired() {
	if u.pid != 0 {
		if fd := u.m.procs.pidfd(u.pid); fd >= 0 {
			pidfdSignal(fd, syscall.SIGKILL)
		}
		return // its exit fails the upgrade
	}
	u.fail(upgradeFault(launch.KindInternal, "the monitor is busy: a start, an exec or a delivery does not end"))
}

func (u *upgrade) fail(err *launch.Error) {
	w := u.waiter
	u.end()
	w.conn.reply(w.id, err, nil)
}

// end forgets the upgrade under way.
func (u *upgrade) end() {
	u.m.drop(&u.answer)
	closeFD(&u.program)
	for i, t := range u.m.timers {
		if t == &u.late {
			u.m.timers = append(u.m.timers[:i], u.m.timers[i+1:]...)
			break
		}
	}
	u.waiter, u.passed, u.text = waiter{}, false, nil
}

// turn is called once per turn of the loop: between two handlers, so that nothing is
// half done.
func (u *upgrade) turn() {
	if u.passed && u.m.calm() {
		u.replace()
	}
}

// calm reports whether nothing is under way that the state does not carry.
func (m *monitor) calm() bool {
	if m.guard.away { // the thread in the kernel would hold the execve back
		return false
	}
	switch m.init.state {
	case created, running, told:
	default:
		return false
	}
	if m.mourning > 0 {
		return false
	}
	for i := range m.procs.owned {
		if _, launcher := m.procs.owned[i].child.(*run); launcher {
			return false
		}
	}
	for _, s := range m.execs {
		if s.launch != nil {
			return false
		}
	}
	return m.report.stage == idle && m.sinks.otlp.sock < 0 && !m.ending
}

// replace executes the new program. It returns only when that failed.
func (u *upgrade) replace() {
	u.count++
	err := u.m.become(u.path())
	u.count--
	u.fail(upgradeFault(launch.KindInternal, "execute the new program: "+err.Error()))
}

// become executes the program at path with the state of this moment. It returns only
// when that failed, and nothing has changed then.
func (m *monitor) become(path string) error {
	state, fds := m.encodeState()
	memory, err := memfd(state)
	if err != nil {
		return err
	}
	fds = append(fds, memory)
	for _, fd := range fds {
		closeOnExec(fd, false)
	}
	err = syscall.Exec(path, []string{"vitrine-monitor", m.config.Dir, resumeArgument, itoa(memory)}, syscall.Environ())
	for _, fd := range fds {
		closeOnExec(fd, true)
	}
	syscall.Close(memory)
	return err
}

// resume goes on where the program before this one, or a monitor that died, left off.
func (m *monitor) resume(memory int) error {
	if err := m.settle(); err != nil {
		return err
	}
	state, err := readAll(memory)
	syscall.Close(memory)
	if err != nil {
		return err
	}
	fds, failed := m.decodeState(state)
	logfile.Unmap(state)
	if failed != nil {
		return failed
	}
	for _, fd := range fds {
		closeOnExec(fd, true)
	}
	nameProcess()
	if m.ledger.fd >= 0 {
		if err := m.ledger.open(m.ledger.fd, m.ledger.size()); err != nil {
			complain("ledger", err)
		}
	}
	m.rejoin()
	m.notify.resume()
	m.ledger.keep()
	w := m.upgrade.waiter
	m.upgrade.waiter = waiter{}
	w.conn.reply(w.id, nil, m.info())
	return nil
}

// nameProcess gives the process the name it had: the program was executed by descriptor,
// which is its name now. prctl(PR_SET_NAME) would name the thread that happens to run
// this, which need not be the first one.
func nameProcess() {
	fd, e := newPath("/proc/self/comm").open(syscall.O_WRONLY)
	if e != 0 {
		return
	}
	write(fd, []byte("vitrine-monitor"))
	syscall.Close(fd)
}

// rejoin puts everything that was carried back into the loop.
func (m *monitor) rejoin() {
	m.active = true
	m.report.configure()
	if m.control.listener >= 0 {
		m.watch(m.control.listener, syscall.EPOLLIN, &m.control)
	}
	for _, c := range m.control.conns {
		m.watch(c.fd, syscall.EPOLLIN, c)
	}
	for i := range m.streams {
		if s := &m.streams[i]; s.fd >= 0 {
			s.wide = true // perhaps; the one before knew
			m.watch(s.fd, syscall.EPOLLIN, s)
		}
	}
	if m.config.Terminal {
		m.tty.master = m.streams[0].fd
	}
	if m.stdin.fd >= 0 && m.stdin.armed {
		m.watch(m.stdin.fd, syscall.EPOLLOUT, &m.stdin)
	}
	for _, c := range m.clients {
		m.timers = append(m.timers, &c.stalled)
		if c.in.fd >= 0 && !m.stdin.armed {
			m.watch(c.in.fd, syscall.EPOLLIN, &c.in)
		}
		for i := range c.out {
			if s := &c.out[i]; s.fd >= 0 && s.skipped > 0 {
				m.watch(s.fd, syscall.EPOLLOUT, s)
			} else if s.fd >= 0 {
				m.watch(s.fd, 0, s)
			}
		}
	}
	if m.init.state < dead && !m.init.orphan {
		m.procs.adopt(m.init.pid, &m.init)
		m.init.pidfd = m.procs.pidfd(m.init.pid)
	} else if m.init.state < dead {
		m.init.watchOrphan()
	}
	for _, s := range m.execs {
		m.procs.adopt(s.pid, s)
	}
}

// try is the trial: it reads the state on stdin and says on stdout whether it could.
func (m *monitor) try() int {
	state, err := readAll(0)
	if err != nil {
		complainTo(1, err.Error())
		return 1
	}
	if _, err := m.decodeState(state); err != nil {
		complainTo(1, err.Message)
		return 1
	}
	complainTo(1, tryAnswer+m.config.ID)
	return 0
}

func complainTo(fd int, line string) { write(fd, append([]byte(line), '\n')) }

func upgradeFault(kind launch.Kind, message string) *launch.Error {
	return fault("monitor.upgrade", kind, message)
}

// memfd is a file in memory with data, positioned at its beginning.
func memfd(data []byte) (int, error) {
	name := [...]byte{'m', 'o', 'n', 'i', 't', 'o', 'r', 0}
	const cloexec = 1
	fd, _, e := syscall.RawSyscall(sysMemfdCreate, uintptr(unsafe.Pointer(&name)), cloexec, 0)
	if e != 0 {
		return -1, e
	}
	for off := 0; off < len(data); {
		n, err := syscall.Pwrite(int(fd), data[off:], int64(off))
		if err != nil {
			syscall.Close(int(fd))
			return -1, err
		}
		off += n
	}
	return int(fd), nil
}

// readAll is the content of a memfd, mapped; the caller unmaps it.
func readAll(fd int) ([]byte, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Size <= 0 || st.Size > maxState {
		return nil, syscall.EFBIG
	}
	buf := mapBuffer(int(st.Size))
	n, err := syscall.Pread(fd, buf, 0)
	if err == nil && n < len(buf) {
		err = syscall.EIO
	}
	return buf, err
}

func closeOnExec(fd int, on bool) {
	flag := uintptr(0)
	if on {
		flag = syscall.FD_CLOEXEC
	}
	syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, flag)
}
