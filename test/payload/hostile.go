package main

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Forbidden are the system calls that the default seccomp profile answers with an error
// in a container without capabilities, in the order in which hostile makes them.
var forbidden = []int{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT,
	unix.SYS_INIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY,
	unix.SYS_CLOCK_SETTIME, unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_PIVOT_ROOT, unix.SYS_USERFAULTFD,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
}

// hostile is played as root without capabilities on a read-only root file system. extra
// is one system call more; below 0: none.
func hostile(extra int) {
	runtime.LockOSThread()
	for _, number := range forbidden {
		unix.RawSyscall6(uintptr(number), 0, 0, 0, 0, 0, 0)
	}
	here := unix.AT_FDCWD
	const file = "/bin/payload"
	unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	unix.RawSyscall(unix.SYS_SETUID, 1, 0, 0)
	unix.RawSyscall(unix.SYS_SETGID, 1, 0, 0)
	unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	priority := int32(1)
	unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority)))
	unix.Setpriority(unix.PRIO_PROCESS, 0, -5)

	unix.Openat(here, "/bin/sh", unix.O_WRONLY, 0) // not file, which is busy
	unix.Mkdirat(here, "/new", 0o755)
	unix.Unlinkat(here, file, 0)
	unix.Renameat(here, file, here, "/new")
	unix.Linkat(here, file, here, "/new", 0)
	unix.Symlinkat("to", here, "/new")
	unix.Fchmodat(here, file, 0o600, 0)
	unix.Truncate(file, 0)
	unix.UtimesNanoAt(here, file, []unix.Timespec{{}, {}}, 0)
	unix.Mknodat(here, "/fifo", unix.S_IFIFO, 0)

	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err == nil {
		// A broadcast address that is there without any network, and was not asked for.
		unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 255, 255, 255}})
	}
	if fd, err := unix.MemfdCreate("sealed", unix.MFD_ALLOW_SEALING); err == nil {
		unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
		unix.Write(fd, []byte("no"))
	}
	if extra >= 0 {
		repeat(extra, 1)
	}
	fmt.Println("done")
}
