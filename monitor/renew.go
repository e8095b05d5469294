package monitor

import (
	"runtime"
	"syscall"
)

// A monitor's heap only grows: the collector is off, because its first run costs some
// 400 KiB for good (mark bits, work buffers, and 4 KiB for each list of spans of each
// size of object), twice of what it could ever find. Execs leave garbage, 0.5 to 2 KiB
// each, and telemetry's POSTs, 0.2. So a monitor that has served some replaces its program by
// itself, in a quiet moment, as an upgrade does: pid, children and descriptors stay, and
// the heap begins anew. That takes 2 ms of CPU.
const (
	// renewAfter is the number of execs after which an idle monitor renews itself.
	renewAfter = 48
	// renewBusyAfter: so many, and it does not wait for silence but only for calm.
	renewBusyAfter = 4 * renewAfter
	// collectAfter: so many without a calm moment, and garbage is collected after all.
	collectAfter = 2048
)

// renew replaces the program by itself when it has left enough garbage. m.collectAt is
// the number of execs at the last time.
func (m *monitor) renew(quiet bool) {
	since := m.counts.Execs - m.collectAt + m.posts/8
	if since < renewAfter || !quiet && since < renewBusyAfter {
		return
	}
	if m.upgrade.program >= 0 || !m.calm() {
		if since >= collectAfter {
			m.collectAt = m.counts.Execs
			runtime.GC()
		}
		return
	}
	m.collectAt = m.counts.Execs
	fd, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY|syscall.O_CLOEXEC, 0) // also where the file has been replaced
	if err == nil {
		m.counts.Renewals++
		err = m.become("/proc/self/fd/" + itoa(fd))
		m.counts.Renewals--
		syscall.Close(fd)
	}
	complain("renew", err)
}
