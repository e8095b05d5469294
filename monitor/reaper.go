package monitor

import (
	"syscall"
	"unsafe"
)

// child is a process whose end someone waits for.
type child interface {
	exited(status uint32, usage *syscall.Rusage)
}

// reaper waits for every child: those that have an owner, and those that the
// subreaper was given because their parents ended.
//
// Owned children have a pidfd in the loop that wakes it. For the others a SIGCHLD,
// interrupting the wait, is enough: should one come between two waits, its zombie
// stays until the next wake-up.
type reaper struct {
	m       *monitor
	owned   []owned
	pending bool
	usage   syscall.Rusage // of the child being reaped
}

type owned struct {
	pid, pidfd int
	child      child
}

// adopt makes c the owner of pid, which must not have been waited for.
func (r *reaper) adopt(pid int, c child) {
	fd, e := pidfdOpen(pid)
	if e != 0 {
		fd = -1
	} else {
		r.m.watch(fd, syscall.EPOLLIN, r)
	}
	r.owned = append(r.owned, owned{pid, fd, c})
	r.pending = true // it may have ended before the descriptor was there
}

// pidfd is the descriptor of an owned process, -1 when it has been reaped.
func (r *reaper) pidfd(pid int) int {
	for i := range r.owned {
		if r.owned[i].pid == pid {
			return r.owned[i].pidfd
		}
	}
	return -1
}

func (r *reaper) ready(uint32) { r.pending = true }

// sweep reaps whatever has ended.
func (r *reaper) sweep() {
	r.pending = false
	for {
		pid := waitable()
		if pid == 0 {
			return
		}
		at := r.find(pid)
		if at < 0 {
			// A launcher's child becomes ours when the launcher has ended, which it
			// does after its reply: the reply is there and says whose this is.
			r.readReplies()
			at = r.find(pid)
		}
		if at >= 0 {
			if p, ok := r.owned[at].child.(interface{ ending() }); ok {
				p.ending() // a last look at the process
			}
		}
		var status syscall.WaitStatus
		if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, &r.usage); err != nil || got != pid {
			return
		}
		if at < 0 {
			r.m.counts.Reaped++
			continue
		}
		o := r.owned[at]
		r.m.drop(&o.pidfd)
		r.owned = append(r.owned[:at], r.owned[at+1:]...)
		o.child.exited(uint32(status), &r.usage)
	}
}

func (r *reaper) find(pid int) int {
	for i := range r.owned {
		if r.owned[i].pid == pid {
			return i
		}
	}
	return -1
}

func (r *reaper) readReplies() {
	for i := 0; i < len(r.owned); i++ {
		if l, ok := r.owned[i].child.(*run); ok && !l.over {
			l.ready(0)
		}
	}
}

// waitable is a child that has ended, without reaping it; 0 when there is none.
func waitable() int {
	const pAll = 0
	var info struct {
		signo, errno, code, _ int32
		pid                   int32
		_                     [108]byte
	}
	_, _, e := syscall.RawSyscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOHANG|syscall.WNOWAIT, 0, 0)
	if e != 0 || info.signo == 0 {
		return 0
	}
	return int(info.pid)
}
