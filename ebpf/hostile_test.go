package ebpf_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// An action is something that a container may not do, and the line that this leaves.
type action struct {
	do   func()
	want line
}

func raw(number int, arguments ...uintptr) func() {
	arguments = append(arguments, make([]uintptr, 6)...)
	return func() {
		unix.RawSyscall6(uintptr(number), arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5])
	}
}

// hostile are the actions below dir, where ro is mounted read-only and noexec.
func hostile(dir string) []action {
	ro, secret, own := dir+"/ro", dir+"/secret", dir+"/own"
	file := ro + "/file"
	here := unix.AT_FDCWD
	var actions []action
	add := func(l line, do func()) {
		l.count = 1
		if l.layer != ebpf.Capability {
			l.capability = -1
		}
		actions = append(actions, action{do, l})
	}
	for _, n := range filtered {
		add(line{layer: ebpf.Seccomp, syscall: n.number, error: n.error}, raw(n.number))
	}
	lacks := func(number, capability int, path string, do func()) {
		add(line{layer: ebpf.Capability, syscall: number, capability: capability, error: unix.EPERM, path: path}, do)
	}
	lacks(unix.SYS_CHROOT, unix.CAP_SYS_CHROOT, "/", func() { unix.Chroot("/") })
	lacks(unix.SYS_SETHOSTNAME, unix.CAP_SYS_ADMIN, "", func() { unix.Sethostname([]byte("no")) })
	lacks(unix.SYS_SETDOMAINNAME, unix.CAP_SYS_ADMIN, "", func() { unix.Setdomainname([]byte("no")) })
	lacks(unix.SYS_SOCKET, unix.CAP_NET_RAW, "", func() { unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) })
	lacks(unix.SYS_MOUNT, unix.CAP_SYS_ADMIN, ro, func() { unix.Mount("none", ro, "tmpfs", 0, "") })
	lacks(unix.SYS_UMOUNT2, unix.CAP_SYS_ADMIN, ro, func() { unix.Unmount(ro, 0) })
	lacks(unix.SYS_PIVOT_ROOT, unix.CAP_SYS_ADMIN, dir, func() { unix.PivotRoot(ro, dir) })
	lacks(unix.SYS_UNSHARE, unix.CAP_SYS_ADMIN, "", func() { unix.Unshare(unix.CLONE_NEWUTS) })
	lacks(unix.SYS_CLOCK_SETTIME, unix.CAP_SYS_TIME, "", func() { unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}) })
	lacks(unix.SYS_REBOOT, unix.CAP_SYS_BOOT, "", raw(unix.SYS_REBOOT, 1, 2, 3))
	lacks(unix.SYS_MKNODAT, unix.CAP_MKNOD, dir+"/null", func() { unix.Mknodat(here, dir+"/null", unix.S_IFCHR, int(unix.Mkdev(1, 3))) })
	lacks(unix.SYS_SETUID, unix.CAP_SETUID, "", raw(unix.SYS_SETUID, 1))
	lacks(unix.SYS_SETGID, unix.CAP_SETGID, "", raw(unix.SYS_SETGID, 1))
	lacks(unix.SYS_SETGROUPS, unix.CAP_SETGID, "", raw(unix.SYS_SETGROUPS, 0, 0))
	lacks(unix.SYS_FCHOWNAT, unix.CAP_CHOWN, own, func() { unix.Fchownat(here, own, 1, 1, 0) })
	lacks(unix.SYS_SCHED_SETSCHEDULER, unix.CAP_SYS_NICE, "", func() {
		priority := int32(1)
		unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority)))
	})
	lacks(unix.SYS_PRLIMIT64, unix.CAP_SYS_RESOURCE, "", func() {
		unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 2, Max: 2}, nil)
	})
	add(line{layer: ebpf.Capability, syscall: unix.SYS_SETPRIORITY, capability: unix.CAP_SYS_NICE, error: unix.EACCES},
		func() { unix.Setpriority(unix.PRIO_PROCESS, 0, -5) })
	// Two capabilities would do; the kernel asks for both, and gives up at the second.
	add(line{layer: ebpf.Capability, syscall: unix.SYS_OPENAT, capability: unix.CAP_DAC_READ_SEARCH}, func() {})
	add(line{layer: ebpf.Capability, syscall: unix.SYS_OPENAT, capability: unix.CAP_DAC_OVERRIDE, error: unix.EACCES, path: secret},
		func() { unix.Openat(here, secret, unix.O_RDONLY, 0) })

	readOnly := func(number int, path string, do func()) {
		add(line{layer: ebpf.ReadOnly, syscall: number, error: unix.EROFS, path: path}, do)
	}
	readOnly(unix.SYS_OPENAT, file, func() { unix.Openat(here, file, unix.O_WRONLY, 0) })
	readOnly(unix.SYS_MKDIRAT, ro+"/new", func() { unix.Mkdirat(here, ro+"/new", 0o755) })
	readOnly(unix.SYS_UNLINKAT, file, func() { unix.Unlinkat(here, file, 0) })
	readOnly(unix.SYS_RENAMEAT, file, raw2(unix.SYS_RENAMEAT, file, ro+"/new"))
	readOnly(unix.SYS_LINKAT, file, raw2(unix.SYS_LINKAT, file, ro+"/new"))
	readOnly(unix.SYS_SYMLINKAT, ro+"/new", func() { unix.Symlinkat("to", here, ro+"/new") })
	readOnly(unix.SYS_FCHMODAT, file, func() { unix.Fchmodat(here, file, 0o600, 0) })
	readOnly(unix.SYS_TRUNCATE, file, func() { unix.Truncate(file, 0) })
	readOnly(unix.SYS_UTIMENSAT, file, func() { unix.UtimesNanoAt(here, file, []unix.Timespec{{}, {}}, 0) })
	readOnly(unix.SYS_MKNODAT, ro+"/fifo", func() { unix.Mknodat(here, ro+"/fifo", unix.S_IFIFO, 0) })

	refused := func(number int, error unix.Errno, path string, do func()) {
		add(line{layer: ebpf.Permission, syscall: number, error: error, path: path}, do)
	}
	refused(unix.SYS_EXECVE, unix.EACCES, file, func() { unix.Exec(file, []string{"file"}, nil) })
	refused(unix.SYS_OPENAT, unix.EACCES, ro+"/null", func() { unix.Openat(here, ro+"/null", unix.O_RDONLY, 0) })
	refused(unix.SYS_CONNECT, unix.EACCES, "", func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		check(err)
		unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 255, 255, 255}})
	})
	refused(unix.SYS_WRITE, unix.EPERM, "", func() {
		fd, err := unix.MemfdCreate("sealed", unix.MFD_ALLOW_SEALING)
		check(err)
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
		check(err)
		unix.Write(fd, []byte("no"))
	})
	return actions
}

func raw2(number int, from, to string) func() {
	return func() {
		a, err := unix.BytePtrFromString(from)
		check(err)
		b, err := unix.BytePtrFromString(to)
		check(err)
		here := unix.AT_FDCWD
		unix.RawSyscall6(uintptr(number), uintptr(here), uintptr(unsafe.Pointer(a)), uintptr(here), uintptr(unsafe.Pointer(b)), 0, 0)
	}
}

// filtered is what the hostile process' seccomp filter answers.
var filtered = []struct {
	number int
	error  unix.Errno
}{
	{unix.SYS_GETPPID, unix.EPERM}, {unix.SYS_ACCT, unix.EPERM}, {unix.SYS_PERSONALITY, unix.EACCES},
	{unix.SYS_KEYCTL, unix.ENOSYS}, {unix.SYS_ADD_KEY, unix.ENOSYS}, {unix.SYS_BPF, unix.EPERM},
	{unix.SYS_USERFAULTFD, unix.EPERM}, {unix.SYS_PERF_EVENT_OPEN, unix.EPERM}, {unix.SYS_SYNC, unix.EINVAL},
	{unix.SYS_IO_URING_SETUP, unix.ENOSYS},
}

func playHostile() {
	runtime.LockOSThread()
	dir := os.Getenv("PLAY_DIR")
	check(unix.Unshare(unix.CLONE_NEWNS))
	check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	ro := dir + "/ro"
	check(unix.Mount("none", ro, "tmpfs", 0, ""))
	check(os.WriteFile(ro+"/file", []byte("#!/bin/true\n"), 0o755))
	check(unix.Mknod(ro+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(unix.Mount("", ro, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOEXEC, ""))
	check(os.WriteFile(dir+"/own", nil, 0o600))
	check(os.WriteFile(dir+"/secret", nil, 0))
	check(unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{}, nil))
	actions := map[int]uint32{}
	for _, n := range filtered {
		actions[n.number] = unix.SECCOMP_RET_ERRNO | uint32(n.error)
	}
	confine(unix.SECCOMP_RET_ALLOW, actions)
	var all []uint
	for c := range uint(unix.CAP_LAST_CAP + 1) {
		all = append(all, c)
	}
	drop(all...)
	for _, a := range hostile(dir) {
		a.do()
	}
	fmt.Println("done")
}

func TestHostileContainersLedgerIsWhatItTried(t *testing.T) {
	p := open(t)
	dir, id := newCgroup(t, "", "hostile", 0)
	track(t, p, id)
	w, err := p.WatchSyscalls(id, ebpf.WatchOptions{Denials: true})
	if err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	if err := os.Mkdir(filepath.Join(place, "ro"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd, _, _ := startInit(t, p, dir, id, "hostile", "PLAY_DIR="+place)
	if status := unix.WaitStatus(wait(t, cmd)); status != 0 {
		t.Fatalf("ended by %v", status)
	}
	var want []line
	for _, a := range hostile(place) {
		want = append(want, a.want)
	}
	have := ledger(t, p, id)
	for i := range max(len(have), len(want)) {
		var h, w line
		if i < len(have) {
			h = have[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if h != w {
			t.Errorf("%d: have %+v\n   want %+v (%s, %s)", i, h, w, ebpf.SyscallName(h.syscall), ebpf.SyscallName(w.syscall))
		}
	}
	t.Logf("%d actions denied", len(want))
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
}
