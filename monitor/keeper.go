package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
)

// A container at a shim is somebody else's child, maybe inside a virtual machine. The
// process that the monitor has instead is a keeper: it ends as the container does, passes
// signals on, and never dies of one. One that was killed is replaced.

// kept reports whether the init is a keeper.
func (c *container) kept() bool { return c.m.config.WatchRequest != "" }

// signalKeeper has the keeper send sig to the container; SIGKILL means all of it.
func (c *container) signalKeeper(sig syscall.Signal) *launch.Error {
	if c.state < created || c.state >= dead || c.pidfd < 0 {
		return fault("monitor.signal", launch.KindGone, "the container is not running")
	}
	switch sig {
	case syscall.SIGKILL:
		sig = launch.KeeperKill
	case syscall.SIGSTOP, launch.KeeperKill:
		return fault("monitor.signal", launch.KindInvalid, "this signal cannot be sent to a container of a shim")
	}
	if e := pidfdSignal(c.pidfd, sig); e == syscall.ESRCH {
		return fault("monitor.signal", launch.KindGone, "the container is not running")
	} else if e != 0 {
		return fault("monitor.signal", launch.KindInvalid, e.Error())
	}
	return nil
}

// killKeeper has the keeper of an exec session kill its process.
func killKeeper(pid int) {
	if p, ok := look(pid); ok {
		p.signal(launch.KeeperKill)
	}
}

// keeperLost replaces a keeper that was killed; it reports whether one is on its way. The
// container goes on meanwhile, and what it writes waits in its pipes.
func (c *container) keeperLost(status uint32) bool {
	if !c.kept() || status&0x7f == 0 || c.state < created || c.lost == maxKeepers || c.m.ending {
		return false
	}
	c.lost++
	complain("replace the container's keeper", fault("monitor.watch", launch.KindGone, "it was "+describe(status)))
	ends, err := c.m.keeperStreams()
	defer ends.close()
	if err != nil {
		complain("replace a keeper", err)
		return false
	}
	c.pidfd = -1
	_, failed := c.m.launch(c.m.config.WatchRequest, ends.streams, false, nil, func(_ *run, reply launch.Reply) {
		if reply.Error != nil || reply.PID == 0 {
			c.lost = maxKeepers
			c.exited(status, &c.m.procs.usage)
			return
		}
		c.pid, c.orphan = reply.PID, false
		c.m.procs.adopt(c.pid, c)
		c.pidfd = c.m.procs.pidfd(c.pid)
		self, _ := look(c.pid)
		c.born = self.began
		c.m.ledger.keep()
	})
	return failed == nil
}

// maxKeepers bounds how often a keeper is replaced.
const maxKeepers = 100

// keeperStreams are the container's ends of its streams, opened anew: the shim holds
// them, so they are still there.
func (m *monitor) keeperStreams() (ends, error) {
	e := ends{noStreams}
	if m.config.Terminal {
		peer, errno := dup(m.tty.peer)
		if errno != 0 {
			return e, errno
		}
		e.stdin = peer
		return e, nil
	}
	open := func(fd, flags int) (int, error) {
		if fd < 0 {
			return -1, nil
		}
		return syscall.Open("/proc/self/fd/"+itoa(fd), flags|syscall.O_CLOEXEC, 0)
	}
	var err error
	if e.stdout, err = open(m.streams[0].fd, syscall.O_WRONLY); err != nil {
		return e, err
	}
	if e.stderr, err = open(m.streams[1].fd, syscall.O_WRONLY); err != nil {
		return e, err
	}
	e.stdin, err = open(m.stdin.fd, syscall.O_RDONLY)
	return e, err
}
