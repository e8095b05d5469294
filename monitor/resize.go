package monitor

import (
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/launch"
)

// resize sets the terminal's size.
func (t *tty) resize(width, height uint16) *launch.Error {
	fd := t.m.streams[0].fd
	if !t.m.config.Terminal {
		return fault("monitor.resize", launch.KindInvalid, "the container has no terminal")
	}
	if fd < 0 {
		return fault("monitor.resize", launch.KindGone, "the container is not running")
	}
	size := [4]uint16{height, width}
	if e := ioctl(fd, syscall.TIOCSWINSZ, unsafe.Pointer(&size)); e != 0 {
		return fault("monitor.resize", launch.KindInternal, "resize terminal: "+e.Error())
	}
	return nil
}
