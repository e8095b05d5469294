package monitor

import (
	"syscall"
	"unsafe"
)

// journalSocket is where systemd's journal takes datagrams.
const journalSocket = "/run/systemd/journal/socket"

// journalSink sends the container's lines to the host's journal in its native protocol
// (systemd, docs/JOURNAL_NATIVE_PROTOCOL): one datagram per entry, of lines
//
//	KEY=VALUE\n
//
// A line of the container has no line end in it, so the form for binary values is not
// needed. A journal that is away or does not keep up loses entries, which are counted.
type journalSink struct {
	m      *monitor
	fd     int
	packet []byte // the entry being sent; mapped
	head   int    // what all entries begin with
	retry  int64  // not before this uptime is a socket tried again
}

// journalRetry is how long an absent journal is left alone, in nanoseconds.
const journalRetry = 5e9

// journalFields names attributes as other runtimes and systemd name them.
var journalFields = [...]struct{ attribute, field string }{
	{"container.id", "CONTAINER_ID_FULL"}, {"k8s.container.name", "CONTAINER_NAME"}, {"k8s.pod.name", "K8S_POD_NAME"},
	{"k8s.namespace.name", "K8S_NAMESPACE_NAME"}, {"k8s.pod.uid", "K8S_POD_UID"},
}

func (j *journalSink) record(s *stream, text string, ended bool) {
	if !j.open() {
		j.m.counts.JournalDropped++
		return
	}
	p := j.packet[:j.head]
	if s.stderr {
		p = append(p, "PRIORITY=3\nCONTAINER_STREAM=stderr\n"...)
	} else {
		p = append(p, "PRIORITY=6\nCONTAINER_STREAM=stdout\n"...)
	}
	if !ended {
		p = append(p, "CONTAINER_PARTIAL_MESSAGE=true\n"...)
	}
	p = append(append(append(p, "MESSAGE="...), text...), '\n')
	j.packet = p
	_, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(j.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if e == 0 {
		j.m.counts.JournalRecords++
		return
	}
	j.m.counts.JournalDropped++
	if e == syscall.ECONNREFUSED || e == syscall.ENOTCONN || e == syscall.EPIPE { // the journal was restarted
		closeFD(&j.fd)
		j.retry = uptime() + journalRetry/50
	}
}

// open connects, and begins the packet, when it has to.
func (j *journalSink) open() bool {
	if j.fd >= 0 {
		return true
	}
	if uptime() < j.retry {
		return false
	}
	j.retry = uptime() + journalRetry
	j.m.posts++
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	path := j.m.config.JournalSocket
	if path == "" {
		path = journalSocket
	}
	if address(syscall.SYS_CONNECT, fd, newPath(path)) != 0 {
		syscall.Close(fd)
		return false
	}
	j.fd = fd
	if j.packet == nil {
		j.packet = mapBuffer(2 * maxLine)[:0]
		j.begin()
	}
	return true
}

// begin writes what all entries have: whose line it is.
func (j *journalSink) begin() {
	p := append(j.packet[:0], "SYSLOG_IDENTIFIER=vitrine\n"...)
	for _, a := range j.m.config.Attributes {
		for _, f := range journalFields {
			if f.attribute == a.Key && len(p)+len(f.field)+len(a.Value) < maxLine/2 {
				p = append(append(append(p, f.field...), '='), oneLine(a.Value)...)
				p = append(p, '\n')
			}
		}
	}
	j.packet, j.head = p, len(p)
}

// oneLine ends text at its first line end, behind which it would be another field.
func oneLine(text string) string {
	for i := range len(text) {
		if text[i] == '\n' {
			return text[:i]
		}
	}
	return text
}
