package client

import (
	"context"
	"syscall"
	"unsafe"
)

// process is a monitor that this daemon started, or another child of its, and must reap. It
// waits through a pidfd in the poller: neither a goroutine nor a thread.
type process struct {
	pid   int
	pidfd int // the reaper's; -1 once it has reaped
	done  chan struct{}

	reaper errand
}

// newProcess takes the child pid and its pidfd over.
func newProcess(pid, pidfd int) *process {
	p := &process{pid: pid, pidfd: pidfd, done: make(chan struct{})}
	p.reaper.do = p.reap
	if pidfd < 0 || descriptors.watch(pidfd, &p.reaper) != nil { // a kernel without pidfds: a thread waits
		closeOne(&pidfd)
		go p.await() // ends when the process does; done is the matching wait
	}
	return p
}

// reap closes done if the process has ended.
func (p *process) reap() {
	if p.pidfd < 0 {
		return
	}
	const pPIDFD = 3
	var info [128]byte // siginfo_t; all zero when nothing has ended
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPIDFD, uintptr(p.pidfd), uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOHANG, 0, 0)
	if errno == 0 && info[0] == 0 {
		return
	}
	descriptors.forget(p.pidfd)
	closeOne(&p.pidfd)
	close(p.done)
}

func (p *process) await() {
	defer close(p.done)
	for {
		if _, err := syscall.Wait4(p.pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
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
