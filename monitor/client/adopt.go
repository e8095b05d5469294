package client

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// lent is what a monitor's death must not take with it: as long as this process holds
// the container's pipes, a write to them waits for the next monitor instead of failing,
// and a pidfd from before the end knows how the init ended. -1 is nothing.
type lent struct {
	pidfd, stdin, stdout, stderr, verdict int
	// listeners are of the container's seccomp filters, by the monitor's numbers.
	listeners map[uint32]int
}

var nothingLent = lent{pidfd: -1, stdin: -1, stdout: -1, stderr: -1, verdict: -1}

func (l *lent) all() [5]*int { return [...]*int{&l.pidfd, &l.stdin, &l.stdout, &l.stderr, &l.verdict} }

func (l *lent) close() {
	l.closeStreams()
	for _, fd := range l.listeners {
		syscall.Close(fd)
	}
	l.listeners = nil
}

func (l *lent) closeStreams() {
	for _, fd := range l.all() {
		closeOne(fd)
	}
}

// borrowListener takes a listener over; -1: it has ended.
func (m *Monitor) borrowListener(num uint32, fd int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, known := m.lent.listeners[num]; known {
		syscall.Close(old)
		delete(m.lent.listeners, num)
	}
	switch {
	case fd < 0:
	case m.closed || m.exit != nil || len(m.lent.listeners) == wire.MaxListeners:
		syscall.Close(fd)
	default:
		if m.lent.listeners == nil {
			m.lent.listeners = map[uint32]int{}
		}
		m.lent.listeners[num] = fd
	}
}

func closeOne(fd *int) {
	if *fd >= 0 {
		syscall.Close(*fd)
		*fd = -1
	}
}

// borrow takes over the descriptors that came with a reply to Create or Hello.
func (m *Monitor) borrow(flags uint32, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pidfd := m.lent.pidfd
	m.lent.pidfd = -1
	m.lent.closeStreams()
	m.lent.pidfd = pidfd
	for _, role := range []struct {
		flag uint32
		fd   *int
	}{{wire.FlagStdin, &m.lent.stdin}, {wire.FlagStdout, &m.lent.stdout}, {wire.FlagStderr, &m.lent.stderr}} {
		if flags&role.flag != 0 && len(fds) > 0 {
			*role.fd, fds = fds[0], fds[1:]
		}
	}
	if len(fds) == 1 {
		m.lent.verdict, fds = fds[0], nil
	}
	closeAll(fds)
	if m.closed {
		m.lent.close()
	}
}

// knowInit opens a pidfd of the init, while it is certain that the number is its own:
// its parent, the monitor, has not reaped it or has just said so.
func (m *Monitor) knowInit(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lent.pidfd >= 0 || m.closed || pid <= 0 {
		return
	}
	if fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0); errno == 0 {
		m.lent.pidfd = int(fd)
	}
}

const sysPidfdOpen = 434

// Adopt starts a monitor in the place of one that died, in the cgroup of Spawn.Cgroup: it
// goes on with the container's streams, its log at the very byte, and its exit status. lost is the
// dead one as this process knew it; nil after a restart, when the container itself
// is asked for its pipes. Attach and exec sessions ended with the dead monitor. The
// error says why the container cannot be watched any more; no monitor is left then.
func Adopt(ctx context.Context, dir, program, cgroup string, lost *Monitor) (*Monitor, error) {
	m, err := adopt(ctx, dir, program, cgroup, lost.bequest())
	if err != nil {
		return nil, fmt.Errorf("adopt the container in %s: %w", dir, err)
	}
	return m, nil
}

// adopt takes left over: a file for each of wire.AdoptPidfd and on, or nil.
func adopt(ctx context.Context, dir, program, cgroup string, left []*os.File) (*Monitor, error) {
	defer func() {
		for _, f := range left {
			f.Close() // nil is no file to it
		}
	}()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make control socket pair: %w", err)
	}
	files := append([]*os.File{os.NewFile(uintptr(pair[1]), "monitor")}, left...)
	defer files[0].Close()
	given := ""
	for _, f := range files[1:] {
		if f == nil {
			given += "0"
		} else {
			given += "1"
		}
	}
	proc, err := fork(program, dir, cgroup, []string{"vitrine-monitor", dir, "adopt", given}, files...)
	if err != nil {
		syscall.Close(pair[0])
		return nil, err
	}
	c, err := connFromFD(pair[0])
	var m *Monitor
	if err == nil {
		m, err = newMonitor(dir, c, proc)
	}
	if err != nil {
		proc.kill()
		return nil, err
	}
	for i := range files { // so that a monitor that ends is noticed
		files[i].Close()
	}
	if m.info, err = m.hello(ctx, c); err != nil {
		proc.kill()
		m.Close()
		return nil, fmt.Errorf("%w: %s", err, lastLine(dir+"/"+wire.LogFile))
	}
	return m, nil
}

// bequest is what a lost monitor has left, in the order of wire.AdoptPidfd and on; a
// nil file is nothing. The files are the caller's.
func (m *Monitor) bequest() []*os.File {
	if m == nil {
		left := nothingLent
		return left.files()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lent.files()
}

// files hands everything over.
func (l *lent) files() []*os.File {
	files := make([]*os.File, 0, 5+len(l.listeners))
	for _, fd := range l.all() {
		var f *os.File
		if *fd >= 0 {
			f = os.NewFile(uintptr(*fd), "lent")
			*fd = -1
		}
		files = append(files, f)
	}
	for _, fd := range l.listeners {
		files = append(files, os.NewFile(uintptr(fd), "listener"))
	}
	l.listeners = nil
	return files
}
