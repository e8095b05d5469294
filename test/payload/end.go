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
