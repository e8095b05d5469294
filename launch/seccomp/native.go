//go:build cgo

package seccomp

/*
#cgo pkg-config: libseccomp
#define _GNU_SOURCE
#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned int major(void) { return seccomp_version()->major; }
static unsigned int minor(void) { return seccomp_version()->minor; }
static unsigned int micro(void) { return seccomp_version()->micro; }

static int optimize(scmp_filter_ctx ctx, uint32_t level)
{
#if SCMP_VER_MAJOR > 2 || (SCMP_VER_MAJOR == 2 && SCMP_VER_MINOR >= 5)
	return seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, level);
#else
	return 0; // only the order of the program's comparisons
#endif
}

// Writes the program to a file in memory: a pipe's room may be a page.
static int export(scmp_filter_ctx ctx)
{
	int rc, fd = memfd_create("filter", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	rc = seccomp_export_bpf(ctx, fd);
	if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
		rc = -errno;
	if (rc != 0) {
		close(fd);
		return rc;
	}
	return fd;
}
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// GetLibraryVersion returns libseccomp's version.
func GetLibraryVersion() (major, minor, micro uint) {
	return uint(C.major()), uint(C.minor()), uint(C.micro())
}

// GetAPI returns the API level that library and kernel support together.
func GetAPI() (uint, error) { return uint(C.seccomp_api_get()), nil }

// GetNativeArch returns this machine's architecture.
func GetNativeArch() (ScmpArch, error) { return ScmpArch(C.seccomp_arch_native()), nil }

// GetSyscallFromName returns a system call's number on the native architecture.
func GetSyscallFromName(name string) (ScmpSyscall, error) {
	if take(name) {
		return offeredCall, nil
	}
	return GetSyscallFromNameByArch(name, ArchNative)
}

// GetSyscallFromNameByArch returns a system call's number on an architecture.
func GetSyscallFromNameByArch(name string, arch ScmpArch) (ScmpSyscall, error) {
	var buffer [64]byte // longer than any name; keeps the C heap out of it
	if len(name) == 0 || len(name) >= len(buffer) {
		return 0, ErrSyscallDoesNotExist
	}
	copy(buffer[:], name)
	number := C.seccomp_syscall_resolve_name_arch(C.uint32_t(arch), (*C.char)(unsafe.Pointer(&buffer[0])))
	if number == C.__NR_SCMP_ERROR {
		return 0, ErrSyscallDoesNotExist
	}
	return ScmpSyscall(number), nil
}

// compile has libseccomp make the program of a script.
func compile(script []byte) ([]byte, error) {
	s := reader{script}
	if s.byte() != entryInit {
		return nil, errInvalid
	}
	ctx := C.seccomp_init(C.uint32_t(s.uint32()))
	if ctx == nil {
		return nil, errors.New("libseccomp refuses the default action")
	}
	defer C.seccomp_release(ctx)
	for len(s.rest) > 0 {
		if err := play(ctx, &s); err != nil {
			return nil, err
		}
	}
	return export(ctx)
}

// play tells libseccomp one entry.
func play(ctx C.scmp_filter_ctx, s *reader) error {
	switch s.byte() {
	case entryArch:
		arch := s.uint32()
		if rc := C.seccomp_arch_add(ctx, C.uint32_t(arch)); rc != 0 && rc != -C.EEXIST {
			return fmt.Errorf("add architecture %v: %w", ScmpArch(arch), syscall.Errno(-rc))
		}
	case entryOptimize:
		C.optimize(ctx, C.uint32_t(s.uint32())) // an older library goes without
	case entryRule:
		action, call := s.uint32(), s.uint32()
		conditions := make([]C.struct_scmp_arg_cmp, s.uint32())
		for i := range conditions {
			conditions[i] = C.struct_scmp_arg_cmp{arg: C.uint(s.uint32()), op: C.enum_scmp_compare(s.uint32()),
				datum_a: C.scmp_datum_t(s.uint64()), datum_b: C.scmp_datum_t(s.uint64())}
		}
		rc := C.seccomp_rule_add_array(ctx, C.uint32_t(action), C.int(int32(call)), C.uint(len(conditions)), unsafe.SliceData(conditions))
		if rc != 0 {
			return fmt.Errorf("add rule for system call %d: %w", int32(call), syscall.Errno(-rc))
		}
	default:
		return errInvalid
	}
	return nil
}

// export reads the program that libseccomp makes.
func export(ctx C.scmp_filter_ctx) ([]byte, error) {
	fd := C.export(ctx)
	if fd < 0 {
		return nil, fmt.Errorf("export filter: %w", syscall.Errno(-fd))
	}
	file := os.NewFile(uintptr(fd), "filter")
	defer file.Close()
	program, err := io.ReadAll(io.LimitReader(file, maxProgram+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read filter: %w", err)
	case len(program) == 0 || len(program)%8 != 0 || len(program) > maxProgram:
		return nil, fmt.Errorf("filter has %d bytes, the kernel takes at most %d", len(program), maxProgram)
	}
	return program, nil
}

// A reader takes a script apart. Scripts come from this process only; their end is not checked.
type reader struct{ rest []byte }

func (r *reader) byte() byte {
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uint32() uint32 {
	n := binary.LittleEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return n
}

func (r *reader) uint64() uint64 {
	n := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return n
}
