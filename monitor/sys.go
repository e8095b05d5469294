package monitor

import (
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
)

// System calls and constants that package syscall does not name. The numbers are the
// same on every architecture.
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434

	prSetChildSubreaper = 36

	fSetPipeSize = 1031 // F_SETPIPE_SZ
	tiocgptpeer  = 0x5441
	msgCloexec   = 0x40000000 // MSG_CMSG_CLOEXEC
	oPath        = 0x200000   // O_PATH

	clockRealtime  = 0
	clockMonotonic = 1
)

func clock(id uintptr) int64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// now is the time of day in nanoseconds since 1970; uptime is a clock that is never set.
func now() int64    { return clock(clockRealtime) }
func uptime() int64 { return clock(clockMonotonic) }

// read and write return 0 and an error number; EINTR is retried. They do not tell the
// Go scheduler that they may block: their descriptors do not, and its help would move
// the loop to another thread in the middle of a burst of output.
func read(fd int, p []byte) (int, syscall.Errno)  { return transfer(syscall.SYS_READ, fd, p) }
func write(fd int, p []byte) (int, syscall.Errno) { return transfer(syscall.SYS_WRITE, fd, p) }

func transfer(call uintptr, fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if e == 0 {
			return int(n), 0
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}

func errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	return syscall.EINVAL
}

func pidfdOpen(pid int) (int, syscall.Errno) {
	fd, _, e := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0) // close-on-exec by itself
	return int(fd), e
}

func pidfdSignal(fd int, sig syscall.Signal) syscall.Errno {
	_, _, e := syscall.RawSyscall6(sysPidfdSendSignal, uintptr(fd), uintptr(sig), 0, 0, 0, 0)
	return e
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) syscall.Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return e
}

// ignoreSignals makes the monitor deaf to everything that is sent by accident or by a
// shutdown that means the containers. Children start with the default dispositions:
// the Go runtime resets, after a fork, every signal that it had a handler for.
func ignoreSignals() {
	const ignore = 1
	action := [4]uint64{ignore} // struct sigaction: handler, flags, restorer, mask
	for _, sig := range [...]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM} {
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

// mapBuffer returns memory outside the Go heap, so that it can be given back.
func mapBuffer(n int) []byte {
	return logfile.Map(n)[:n]
}

// mapFile maps size bytes of the file behind fd, shared.
func mapFile(fd, size int) ([]byte, error) {
	at, _, e := syscall.RawSyscall6(syscall.SYS_MMAP, 0, uintptr(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED, uintptr(fd), 0)
	if e != 0 {
		return nil, e
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), size), nil
}

// closeFD closes *fd if it is open and marks it closed.
func closeFD(fd *int) {
	if *fd >= 0 {
		syscall.Close(*fd)
		*fd = -1
	}
}

// Descriptors of one message: as many may come, and at most be sent.
const (
	maxReceived = 4
	maxSent     = 6
)

// control is room for the descriptors of one message.
type control struct {
	header syscall.Cmsghdr
	fds    [maxSent]int32
}

// receive reads one packet with the descriptors that came with it, close-on-exec.
func receive(sock int, buf []byte, fds *[maxReceived]int) (n, nfds int, e syscall.Errno) {
	var c control
	iov := syscall.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	msg := syscall.Msghdr{Iov: &iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&c)), Controllen: uint64(unsafe.Sizeof(c.header)) + 4*maxReceived}
	r, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, uintptr(sock), uintptr(unsafe.Pointer(&msg)), msgCloexec|syscall.MSG_DONTWAIT)
	if e != 0 {
		return 0, 0, e
	}
	if msg.Controllen >= uint64(unsafe.Sizeof(c.header)) && c.header.Level == syscall.SOL_SOCKET && c.header.Type == syscall.SCM_RIGHTS {
		nfds = min(int(c.header.Len-uint64(unsafe.Sizeof(c.header)))/4, len(fds))
		for i := range nfds {
			fds[i] = int(c.fds[i])
		}
	}
	if msg.Flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		for i := range nfds {
			syscall.Close(fds[i])
		}
		return 0, 0, syscall.EMSGSIZE
	}
	return int(r), nfds, 0
}

// send writes one packet, with at most maxSent descriptors. It does not wait.
func send(sock int, packet []byte, fds []int) syscall.Errno {
	iov := syscall.Iovec{Base: &packet[0], Len: uint64(len(packet))}
	msg := syscall.Msghdr{Iov: &iov, Iovlen: 1}
	var c control
	if n := copyFDs(&c, fds); n > 0 {
		size := uint64(unsafe.Sizeof(c.header)) + 4*uint64(n)
		c.header = syscall.Cmsghdr{Len: size, Level: syscall.SOL_SOCKET, Type: syscall.SCM_RIGHTS}
		msg.Control, msg.Controllen = (*byte)(unsafe.Pointer(&c)), (size+7)&^7
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(sock), uintptr(unsafe.Pointer(&msg)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	return e
}

func copyFDs(c *control, fds []int) (n int) {
	for ; n < min(len(fds), len(c.fds)); n++ {
		c.fds[n] = int32(fds[n])
	}
	return n
}
