package monitor

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

const (
	notifyValid  = 0x40082102 // SECCOMP_IOCTL_NOTIF_ID_VALID
	ioUringSetup = 425        // on every architecture
)

// asks says whether the kernel knows filters that leave a call to a listener (seccomp(2),
// SECCOMP_GET_ACTION_AVAIL).
func asks() bool {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}

// asking is a thread that makes a system call which its filter leaves to the listener,
// each time it is told to, and says what became of it.
func asking(t *testing.T) (listener, tid int, call chan<- bool, answer <-chan syscall.Errno) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: ioUringSetup},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	calls, answers, ready := make(chan bool), make(chan syscall.Errno), make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread() // for good: the filter ends with its thread
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		fd, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
		if err != nil {
			errno = err.(syscall.Errno)
		}
		listener, tid = int(fd), unix.Gettid()
		ready <- errno
		if errno != 0 {
			return
		}
		for range calls {
			_, _, errno := syscall.Syscall(ioUringSetup, 0, 0, 0)
			answers <- errno
		}
	}()
	if errno := <-ready; errors.Is(errno, syscall.EINVAL) && !asks() {
		t.Skip("needs SECCOMP_RET_USER_NOTIF (Linux 5.0)")
	} else if errno != 0 {
		t.Fatal("seccomp: ", errno)
	}
	t.Cleanup(func() { close(calls); syscall.Close(listener) })
	return listener, tid, calls, answers
}

// The Go runtime interrupts its own threads every 10 ms; a monitor that is slower than
// that must not count each of the wait's new beginnings.
func TestCallThatASignalTakesOutOfItsWaitIsCountedOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	m := &monitor{}
	m.config.Notify = wire.NotifyLog
	n := &m.notify
	n.m = m
	if err := n.count(); err != nil {
		t.Fatal(err)
	}
	fd, tid, call, answer := asking(t)
	l := &listener{m: m, fd: fd}
	for _, interrupted := range []int{0, 1, 3, 0, 12} {
		before := n.calls.Calls[0].Count
		call <- true
		for range interrupted {
			if !l.take() {
				t.Fatal("no call")
			}
			id := n.calls.Asked.ID
			for deadline := time.Now().Add(time.Minute); ioctl(fd, notifyValid, unsafe.Pointer(&id)) != syscall.ENOENT; time.Sleep(time.Millisecond) {
				// The runtime's own signal for this, whose handler has the call restarted.
				if err := unix.Tgkill(os.Getpid(), tid, syscall.SIGURG); err != nil || time.Now().After(deadline) {
					t.Fatalf("the call still waits: %v", err)
				}
			}
			l.settle()
			n.unanswered()
		}
		l.ready(syscall.EPOLLIN)
		if errno := <-answer; errno != syscall.EPERM {
			t.Errorf("interrupted %d times: the call ended with %v, want EPERM", interrupted, errno)
		}
		if counted := n.calls.Calls[0].Count - before; counted != 1 {
			t.Errorf("a call that was interrupted %d times was counted %d times", interrupted, counted)
		}
	}
}
