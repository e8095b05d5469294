package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
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

func fault() {
	mem, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		fail(err.Error())
	}
	byDefault(syscall.SIGSEGV)
	mem[0] = 1
}

// byDefault undoes what Go's runtime did with the signal.
func byDefault(sig syscall.Signal) {
	var none [4]uint64
	if _, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0); e != 0 {
		fail(e.Error())
	}
}
