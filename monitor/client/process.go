package client

import (
	"context"
	"os"
	"syscall"
	"unsafe"
)

// process is a monitor that this daemon started and must reap. It waits through a
// pidfd in Go's poller: a monitor costs the daemon a parked goroutine, not a thread.
type process struct {
	pid   int
	pidfd *os.File
	done  chan struct{}
}

// newProcess takes p and pidfd over.
func newProcess(p *os.Process, pidfd int) *process {
	pr := &process{pid: p.Pid, done: make(chan struct{})}
	if pidfd < 0 { // a kernel without pidfds: a thread waits
		go func() { p.Wait(); close(pr.done) }()
		return pr
	}
	p.Release()
	syscall.SetNonblock(pidfd, true)
	pr.pidfd = os.NewFile(uintptr(pidfd), "monitor pidfd")
	go pr.reap() // ends when the monitor does; done is the matching wait
	return pr
}

func (p *process) reap() {
	defer close(p.done)
	defer p.pidfd.Close()
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool {
		const pPIDFD = 3
		var info [128]byte // siginfo_t; all zero when nothing has ended
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPIDFD, fd, uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOHANG, 0, 0)
		return errno != 0 && errno != syscall.EINTR || errno == 0 && info[0] != 0
	})
}

// wait returns when the process has ended and is reaped, or ctx has ended.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the process; it is a child that has not been waited for, so the number is its own.
func (p *process) kill() {
	select {
	case <-p.done:
	default:
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
}
