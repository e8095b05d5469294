//go:build cgo

package seccomp

import (
	"errors"
	"fmt"
)

// ScmpArch is an architecture: libseccomp's number, which is the kernel's AUDIT_ARCH_*
// except for x32, which has none.
type ScmpArch uint32

// The architectures that libcontainer knows.
const (
	ArchNative      ScmpArch = 0
	ArchX86         ScmpArch = 0x40000003
	ArchAMD64       ScmpArch = 0xc000003e
	ArchX32         ScmpArch = 0x4000003e
	ArchARM         ScmpArch = 0x40000028
	ArchARM64       ScmpArch = 0xc00000b7
	ArchMIPS        ScmpArch = 0x00000008
	ArchMIPS64      ScmpArch = 0x80000008
	ArchMIPS64N32   ScmpArch = 0xa0000008
	ArchMIPSEL      ScmpArch = 0x40000008
	ArchMIPSEL64    ScmpArch = 0xc0000008
	ArchMIPSEL64N32 ScmpArch = 0xe0000008
	ArchPPC         ScmpArch = 0x00000014
	ArchPPC64       ScmpArch = 0x80000015
	ArchPPC64LE     ScmpArch = 0xc0000015
	ArchS390        ScmpArch = 0x00000016
	ArchS390X       ScmpArch = 0x80000016
	ArchRISCV64     ScmpArch = 0xc00000f3
	ArchLOONGARCH64 ScmpArch = 0xc0000102
)

// archNames are the names that libcontainer's configuration uses.
var archNames = map[string]ScmpArch{
	"x86": ArchX86, "amd64": ArchAMD64, "x32": ArchX32, "arm": ArchARM, "arm64": ArchARM64,
	"mips": ArchMIPS, "mips64": ArchMIPS64, "mips64n32": ArchMIPS64N32,
	"mipsel": ArchMIPSEL, "mipsel64": ArchMIPSEL64, "mipsel64n32": ArchMIPSEL64N32,
	"ppc": ArchPPC, "ppc64": ArchPPC64, "ppc64le": ArchPPC64LE,
	"s390": ArchS390, "s390x": ArchS390X, "riscv64": ArchRISCV64, "loong64": ArchLOONGARCH64,
}

// GetArchFromString returns the architecture of a name, for example "amd64".
func GetArchFromString(name string) (ScmpArch, error) {
	if arch, known := archNames[name]; known {
		return arch, nil
	}
	return 0, fmt.Errorf("unknown architecture %q", name)
}

// String returns the name.
func (a ScmpArch) String() string {
	for name, arch := range archNames {
		if arch == a {
			return name
		}
	}
	return fmt.Sprintf("%#x", uint32(a))
}

// ScmpAction is what the kernel does with a system call: libseccomp's number, which is
// the kernel's SECCOMP_RET_* with its data in the lower 16 bits.
type ScmpAction uint32

// The actions. ActInvalid is none.
const (
	ActKillThread  ScmpAction = 0x00000000
	ActKillProcess ScmpAction = 0x80000000
	ActTrap        ScmpAction = 0x00030000
	ActErrno       ScmpAction = 0x00050000
	ActNotify      ScmpAction = 0x7fc00000
	ActTrace       ScmpAction = 0x7ff00000
	ActLog         ScmpAction = 0x7ffc0000
	ActAllow       ScmpAction = 0x7fff0000
	ActInvalid     ScmpAction = 0xffffffff
)

// SetReturnCode returns the action with code, if it is one that has a code, else itself.
func (a ScmpAction) SetReturnCode(code int16) ScmpAction {
	if base := a &^ 0xffff; base == ActErrno || base == ActTrace {
		return base | ScmpAction(uint16(code))
	}
	return a
}

// ScmpCompareOp is a comparison: enum scmp_compare. CompareInvalid is none.
type ScmpCompareOp int32

// The comparisons.
const (
	CompareInvalid ScmpCompareOp = iota
	CompareNotEqual
	CompareLess
	CompareLessOrEqual
	CompareEqual
	CompareGreaterEqual
	CompareGreater
	CompareMaskedEqual // (argument & Operand1) == Operand2
)

// ScmpCondition compares an argument of a system call.
type ScmpCondition struct {
	Argument           uint // 0 to 5
	Op                 ScmpCompareOp
	Operand1, Operand2 uint64
}

// MakeCondition makes a condition with one or two operands.
func MakeCondition(argument uint, op ScmpCompareOp, operands ...uint64) (ScmpCondition, error) {
	switch {
	case op <= CompareInvalid || op > CompareMaskedEqual:
		return ScmpCondition{}, fmt.Errorf("comparison %d is unknown", op)
	case argument > 5:
		return ScmpCondition{}, fmt.Errorf("a system call has arguments 0 to 5, not %d", argument)
	case len(operands) == 0 || len(operands) > 2:
		return ScmpCondition{}, fmt.Errorf("a comparison has one or two operands, not %d", len(operands))
	}
	c := ScmpCondition{Argument: argument, Op: op, Operand1: operands[0]}
	if len(operands) == 2 {
		c.Operand2 = operands[1]
	}
	return c, nil
}

// ScmpSyscall is the number of a system call. Negative numbers are libseccomp's own, for
// calls that this architecture has under another name or not at all.
type ScmpSyscall int32

// ErrSyscallDoesNotExist is returned for names that libseccomp does not know.
var ErrSyscallDoesNotExist = errors.New("could not resolve syscall name")

// VersionError says that an ability needs a newer libseccomp or kernel.
type VersionError struct {
	ability     string
	level, have uint
}

// Error names the ability and the API levels, which seccomp_api_get(3) explains.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s needs libseccomp's API level %d, this library and kernel have %d", e.ability, e.level, e.have)
}
