package monitor

import (
	"syscall"
	"unsafe"
)

// pause is the first process of a pid namespace that several containers share: it
// has the kernel reap what loses its parent, and sleeps. SIGTERM ends it, by the Go
// runtime's own handler: a first process would not notice it otherwise. It returns
// only when it cannot sleep.
func pause() int {
	const ignore = 1
	action := [4]uint64{ignore}
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGCHLD), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	for {
		if _, _, e := syscall.Syscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0); e != syscall.EINTR {
			return 1
		}
	}
}
