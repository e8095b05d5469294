package ebpf_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// confine gives the whole process a seccomp filter: what each syscall returns, and what
// all others do.
func confine(rest uint32, actions map[int]uint32) {
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for nr, action := range actions {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(nr)}, ret(action))
	}
	program = append(program, ret(rest))
	check(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	const tsync = 1 // SECCOMP_FILTER_FLAG_TSYNC
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, tsync, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		check(errno)
	}
}

// drop takes capabilities from the calling thread, which is then locked.
func drop(caps ...uint) {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	check(unix.Capget(&header, &data[0]))
	for _, c := range caps {
		data[c/32].Effective &^= 1 << (c % 32)
	}
	check(unix.Capset(&header, &data[0]))
}

// playDenied are the parts that are denied something without being watched.
func playDenied(part string) {
	switch part {
	case "seccomp-kill":
		confine(unix.SECCOMP_RET_ALLOW, map[int]uint32{unix.SYS_GETPPID: unix.SECCOMP_RET_KILL_PROCESS})
		unix.Getppid()
	case "seccomp-trap":
		confine(unix.SECCOMP_RET_ALLOW, map[int]uint32{unix.SYS_GETPPID: unix.SECCOMP_RET_TRAP})
		defaultAction(unix.SIGSYS)
		unix.Getppid()
	case "seccomp-thread":
		confine(unix.SECCOMP_RET_ALLOW, map[int]uint32{unix.SYS_GETPPID: unix.SECCOMP_RET_KILL_THREAD})
		gone := make(chan int)
		var die func()
		die = func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() { // the first thread stays until the last
				go die()
				select {}
			}
			gone <- unix.Gettid()
			unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		go die()
		tid := <-gone
		for range 30_000 {
			if unix.Tgkill(os.Getpid(), tid, 0) != nil {
				os.Exit(5)
			}
			time.Sleep(time.Millisecond)
		}
	case "capabilities":
		drop(unix.CAP_SYS_CHROOT, unix.CAP_SYS_ADMIN, unix.CAP_NET_RAW)
		for range 3 {
			unix.Chroot("/")
		}
		unix.Sethostname([]byte("no"))
		unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	case "quiet": // an ordinary user's ordinary life
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETUID, 65534, 0, 0)
		if errno != 0 {
			check(errno)
		}
		for range 10 {
			mem, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			check(err)
			mem[0] = 1
			check(unix.Munmap(mem))
		}
		os.ReadFile("/proc/1/stat")
		unix.Listxattr("/", make([]byte, 100))
		check(exec.Command("/bin/true").Run())
	}
}

// A bare look at the ledger: what, in the order of time, without when and who.
type line struct {
	layer      ebpf.Layer
	syscall    int
	capability int
	signal     unix.Signal
	error      unix.Errno
	path       string
	count      uint64
}

func ledger(t *testing.T, p *ebpf.Programs, cgroup uint64) []line {
	t.Helper()
	all, lost, err := p.Denials(cgroup)
	if err != nil || lost != 0 {
		t.Fatalf("ledger: lost %d, %v", lost, err)
	}
	var lines []line
	for _, d := range all {
		if d.First == 0 || d.Last < d.First || d.Last > sinceBoot() || d.PID == 0 || d.Comm == "" || d.Foreign {
			t.Errorf("%+v", d)
		}
		lines = append(lines, line{d.Layer, d.Syscall, d.Capability, d.Signal, d.Error, d.Path, d.Count})
	}
	return lines
}

func TestLedgerHasWhatNeedsNoWatch(t *testing.T) {
	p := open(t)
	killed := func(n int) line {
		return line{layer: ebpf.Seccomp, syscall: n, capability: -1, signal: unix.SIGSYS, count: 1}
	}
	lacks := func(n, c int, count uint64) line {
		return line{layer: ebpf.Capability, syscall: n, capability: c, count: count}
	}
	for _, c := range []struct {
		part   string
		status func(unix.WaitStatus) bool
		want   []line
	}{
		{"seccomp-kill", killedBy(unix.SIGSYS), []line{killed(unix.SYS_GETPPID)}},
		{"seccomp-trap", killedBy(unix.SIGSYS), []line{killed(unix.SYS_GETPPID)}},
		{"seccomp-thread", exited(5), []line{killed(unix.SYS_GETPPID)}},
		{"capabilities", exited(0), []line{
			lacks(unix.SYS_CHROOT, unix.CAP_SYS_CHROOT, 3),
			lacks(unix.SYS_SETHOSTNAME, unix.CAP_SYS_ADMIN, 1),
			lacks(unix.SYS_SOCKET, unix.CAP_NET_RAW, 1),
		}},
		{"quiet", exited(0), nil},
	} {
		t.Run(c.part, func(t *testing.T) {
			dir, id := newCgroup(t, "", c.part, 0)
			track(t, p, id)
			cmd := start(t, dir, "denied "+c.part)
			if status := unix.WaitStatus(wait(t, cmd)); !c.status(status) {
				t.Errorf("ended by %v", status)
			}
			if have := ledger(t, p, id); !equalLines(have, c.want) {
				t.Errorf("have %+v\nwant %+v", have, c.want)
			}
			if err := p.Untrack(id); err != nil {
				t.Fatal(err)
			}
			if left, _, err := p.Denials(id); err != nil || left != nil {
				t.Errorf("left: %+v, %v", left, err)
			}
		})
	}
}

func killedBy(s unix.Signal) func(unix.WaitStatus) bool {
	return func(w unix.WaitStatus) bool { return w.Signaled() && w.Signal() == s }
}

func exited(code int) func(unix.WaitStatus) bool {
	return func(w unix.WaitStatus) bool { return w.Exited() && w.ExitStatus() == code }
}

func equalLines(a, b []line) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
