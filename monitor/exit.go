package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

const (
	// drainReads bounds what is read of each stream between the init's end and the exit
	// record, in reads: four times what the pipe can hold. More is only there when a
	// process left behind goes on writing.
	drainReads = 4 * wideSize / scratchSize
	// recordRetry is the time between attempts to write the record, in milliseconds;
	// after recordAttempts everyone is told without it.
	recordRetry    = 200
	recordAttempts = 25
)

// exited is called when the init was reaped: what it wrote is read, the record is
// written, then everyone is told.
func (c *container) exited(status uint32, usage *syscall.Rusage) {
	if c.keeperLost(status) {
		return
	}
	c.pidfd = -1
	c.m.tty.hangUp()
	c.exit.PID, c.exit.Status, c.exit.ExitedAt = c.pid, status, now()
	if !c.kept() { // a keeper's own use says nothing of the container
		c.exit.UserTime, c.exit.SystemTime = usage.Utime.Nano(), usage.Stime.Nano()
		c.exit.MaxRSS = usage.Maxrss << 10
	}
	c.settling = true
	c.settle()
}

// settle brings an exit to its record. It may be called again while the first call waits
// for the log's file system, and then does what is left; see guard.
func (c *container) settle() {
	if !c.settling {
		return
	}
	m := c.m
	for i := range m.streams {
		m.streams[i].drain(drainReads)
	}
	if !c.settling {
		return
	}
	c.settling = false
	early := c.state < running
	c.state = dead
	if early {
		c.endedEarly(c.exit.Status, c.exit.ExitedAt)
	}
	m.stdin.close()
	c.exit.StartedAt = c.startedAt
	c.retry.fire = c.record
	m.timers = append(m.timers, &c.retry)
	c.record()
}

// endedEarly settles a start that the init's end has overtaken, or a container that
// was never started.
func (c *container) endedEarly(status uint32, at int64) {
	c.ready(0) // what the init said last
	c.m.drop(&c.fifo)
	c.m.drop(&c.verdict)
	if c.waiter.conn == nil {
		return
	}
	if c.starter != nil { // overtaken says how it went
		c.startedAt = at
		return
	}
	if c.let && len(c.text) == 0 && c.executed(c.after) {
		c.startedAt = at
		w := c.waiter
		c.waiter.answer(nil)
		c.m.report.started(w, at, nil)
		return
	}
	err := launch.ExecError(string(c.text))
	if err == nil {
		err = c.neverExecuted(status)
	}
	c.notStarted(err)
}

// record writes the exit record and tells everyone; it comes back when it cannot.
func (c *container) record() {
	l := c.m.log
	c.exit.LogBytes, c.exit.LogLines, c.exit.LogDropped = int64(l.BytesIn), int64(l.Lines), int64(l.Dropped)
	c.exit.LogLimited, c.exit.LogErrno = int64(l.Limited), int64(l.LastError)
	c.exit.LogStalls, c.exit.LogStalledMillis = int64(c.m.counts.LogStalls), int64(c.m.guard.stalled())
	body := c.exit.Append(nil)
	if err := writeFile(wire.ExitFile, body); err != nil {
		if c.attempts++; c.attempts < recordAttempts {
			c.retry.set(recordRetry)
			return
		}
		complain("write exit record", err)
	}
	c.state = told
	c.m.control.tell(&wire.Message{Kind: wire.Exited, Body: body})
	for len(c.m.clients) > 0 {
		c.m.clients[len(c.m.clients)-1].end(c.exit.Status, nil)
	}
}

// writeFile writes a file beside its place in the working directory, syncs and renames it.
func writeFile(name string, data []byte) error {
	fresh := name + ".new"
	fd, err := syscall.Open(fresh, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	n, e := write(fd, data)
	if e == 0 && n < len(data) {
		e = syscall.ENOSPC
	}
	if e == 0 {
		e = errno(syscall.Fsync(fd))
	}
	syscall.Close(fd)
	if e != 0 {
		syscall.Unlink(fresh)
		return e
	}
	if err := syscall.Rename(fresh, name); err != nil {
		return err
	}
	dir, err := syscall.Open(".", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	return syscall.Fsync(dir)
}
