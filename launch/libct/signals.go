package libct

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// DefaultSignals gives every signal that this process ignores its default action. An
// ignored signal stays ignored through fork and execve (signal(7)), down to the
// user's program, which would then not end at a SIGTERM that a shell far above it
// once ignored. The C library's own two (32 and 33) are no exception.
func DefaultSignals() {
	const (
		signals = 64
		ignored = 1 // SIG_IGN
		size    = 8 // of the kernel's signal set
	)
	for sig := uintptr(1); sig <= signals; sig++ {
		var action [4]uint64 // struct sigaction of the kernel: handler, flags, restorer, mask
		_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&action)), size, 0, 0)
		if e != 0 || action[0] != ignored {
			continue
		}
		action = [4]uint64{}
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, size, 0, 0)
	}
}
