package monitor

import (
	"syscall"
)

// mourn answers a KillSession when what was killed has ended, so that nobody who has the
// answer meets one of these processes: on a busy machine one that is dead in all but
// name still waits for a CPU.
type mourn struct {
	m    *monitor
	conn *conn
	id   uint32
	left []*death
	late timer
}

// death is one process that was killed and may not have ended.
type death struct {
	of    *mourn
	pidfd int
}

const (
	// mournBound is how long the answer waits, in milliseconds: a process in the kernel
	// may take for ever.
	mournBound = 2000
	// maxMourned bounds the processes that are waited for.
	maxMourned = 64
)

// mourn takes the tree that was killed.
func (m *monitor) mourn(c *conn, id uint32, tree map[int]process) {
	w := &mourn{m: m, conn: c, id: id}
	for pid := range tree {
		if len(w.left) == maxMourned {
			break
		}
		if fd, e := pidfdOpen(pid); e == 0 {
			d := &death{w, fd}
			w.left = append(w.left, d)
			m.watch(fd, syscall.EPOLLIN, d)
		}
	}
	m.mourning++
	w.late.fire = w.end
	w.late.set(mournBound)
	m.timers = append(m.timers, &w.late)
	if len(w.left) == 0 {
		w.end()
	}
}

func (d *death) ready(uint32) {
	w := d.of
	w.m.drop(&d.pidfd)
	for i, other := range w.left {
		if other == d {
			w.left = append(w.left[:i], w.left[i+1:]...)
			break
		}
	}
	if len(w.left) == 0 {
		w.end()
	}
}

func (w *mourn) end() {
	for _, d := range w.left {
		w.m.drop(&d.pidfd)
	}
	for i, t := range w.m.timers {
		if t == &w.late {
			w.m.timers = append(w.m.timers[:i], w.m.timers[i+1:]...)
			break
		}
	}
	w.m.mourning--
	w.conn.reply(w.id, nil, nil)
}
