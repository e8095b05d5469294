package logfile

import (
	"syscall"
	"unsafe"
)

// Memory outside the Go heap: it can be given back to the kernel. Package syscall would
// keep a table of all mappings on the heap, hence the raw calls.

const pageSize = 4096 // or a part of a page

// Map returns an empty slice with room for n bytes, which are zero. It falls back to the
// heap when the kernel refuses.
func Map(n int) []byte {
	n = (n + pageSize - 1) &^ (pageSize - 1)
	at, _, e := syscall.RawSyscall6(syscall.SYS_MMAP, 0, uintptr(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS, ^uintptr(0), 0)
	if e != 0 {
		return make([]byte, 0, n+1) // the odd size tells it from a mapping
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), n)[:0]
}

func mapped(buf []byte) bool { return cap(buf) > 0 && cap(buf)%pageSize == 0 }

// Release gives the memory of a slice that begins as one of Map's does back to the
// kernel: it may be used on and is zero.
func Release(buf []byte) {
	if mapped(buf) {
		syscall.RawSyscall(syscall.SYS_MADVISE, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(cap(buf)), syscall.MADV_DONTNEED)
	}
}

// Unmap ends a mapping, of which nothing may be used any more.
func Unmap(buf []byte) {
	if mapped(buf) {
		syscall.RawSyscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(cap(buf)), 0)
	}
}
