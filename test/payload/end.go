package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hog takes memory page by page, past the garbage collector.
func hog(mib int) {
	mem, err := syscall.Mmap(-1, 0, mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		fail(err.Error())
	}
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
	fmt.Println("held")
	time.Sleep(24 * time.Hour)
}

// abort is a PID 1 ending itself: to it, only a signal whose action it has set arrives,
// unless it comes from the kernel; tgkill of SIGABRT with the default action is dropped.
func abort() {
	byDefault(syscall.SIGABRT)
	syscall.Kill(os.Getpid(), syscall.SIGABRT)
	time.Sleep(24 * time.Hour)
}

// fault makes a system call some times first, on the thread that it ends on.
func fault(call, times int) {
	runtime.LockOSThread()
	mem, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		fail(err.Error())
	}
	byDefault(syscall.SIGSEGV)
	repeat(call, times)
	mem[0] = 1
}

// bus finds out that a file's disk is full where write(2) would say so.
func bus(path string, mib int) {
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(int64(mib) << 20)
	}
	if err != nil {
		fail(err.Error())
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		fail(err.Error())
	}
	byDefault(syscall.SIGBUS)
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
}

// undefined is the instruction that a processor keeps undefined: ud2, udf #0.
var undefined = map[string][]byte{"amd64": {0x0f, 0x0b}, "arm64": {0, 0, 0, 0}}

func illegal() {
	mem, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE|syscall.PROT_EXEC, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		fail(err.Error())
	}
	copy(mem, undefined[runtime.GOARCH])
	byDefault(syscall.SIGILL)
	code := unsafe.Pointer(&mem[0])
	function := unsafe.Pointer(&code) // what Go calls a function is a pointer to where its address lies
	(*(*func())(unsafe.Pointer(&function)))()
}

// vfork stays in the kernel until its child has gone, which it does not, on the first
// thread: init is run there.
func vfork() {
	pid, _, err := syscall.RawSyscall6(syscall.SYS_CLONE, syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if err != 0 {
		fail(err.Error())
	}
	for pid == 0 {
		syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0) // for ever
	}
}

func init() {
	if len(os.Args) > 1 && os.Args[1] == "vfork" {
		runtime.LockOSThread()
	}
}

// repeat makes a system call, with zero arguments.
func repeat(call, times int) {
	for range times {
		syscall.RawSyscall(uintptr(call), 0, 0, 0)
	}
}

func cost(call, times int) {
	runtime.LockOSThread()
	var before, after unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
	repeat(call, times)
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after)
	fmt.Println(float64(after.Nano()-before.Nano()) / float64(max(times, 1)))
}

func pulse(call int) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("beating")
	for {
		select {
		case <-c:
			return
		case <-time.After(time.Millisecond):
			repeat(call, 1)
		}
	}
}

// byDefault undoes what Go's runtime did with the signal.
func byDefault(sig syscall.Signal) {
	var none [4]uint64
	if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0); e != 0 {
		fail(e.Error())
	}
}
