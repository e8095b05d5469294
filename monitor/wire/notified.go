package wire

import "unsafe"

// NotifiedTable is the file in which a monitor counts what the container's seccomp filter asked
// it: shared memory on tmpfs, so that it survives the monitor. Places are filled in
// order, Used being stored last, and then only Count, Last and Killed change.
type NotifiedTable struct {
	Magic uint64
	// Used is how many of Calls are. Lost counts what found no place.
	Used, Lost uint64
	// Asked is the call being answered; its ID is 0 between calls. The kernel itself writes
	// it here, so that a monitor that is killed with a call in hand leaves it to the next:
	// nobody else is ever told of it. Counted is 1 once it is in Calls.
	Asked   Notification
	Counted uint64
	Calls   [MaxNotified]NotifiedCall
}

// Notification is struct seccomp_notif of include/uapi/linux/seccomp.h.
type Notification struct {
	ID         uint64
	PID, Flags uint32
	Syscall    int32
	Arch       uint32
	IP         uint64
	Args       [6]uint64
}

// NotifiedCall is one system call, however often.
type NotifiedCall struct {
	Count uint64
	// First and Last are nanoseconds since 1970.
	First, Last int64
	// Arch is an AUDIT_ARCH_ constant, Syscall a number of that architecture.
	Arch    uint32
	Syscall int32
	// PID, of the host's namespace, and Command are of the first that tried.
	PID uint32
	// Killed is 1 when the container was killed for it.
	Killed  uint32
	Command [16]byte
}

// NotifiedMagic says that a file is one; its last byte is the version.
const NotifiedMagic = 0x76697472_6e6f7401

// MaxNotified bounds the different system calls that are counted.
const MaxNotified = 256

// NotifiedSize is the size of the file.
const NotifiedSize = int(unsafe.Sizeof(NotifiedTable{}))
