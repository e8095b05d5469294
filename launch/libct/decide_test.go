package libct_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/net/bpf"
)

// difference says where two filters decide differently, by running both over every
// architecture, number and argument that a profile can tell apart; empty if nowhere. The programs
// themselves differ from run to run: libcontainer orders the architectures by chance.
func difference(t testing.TB, a, b []byte) string {
	t.Helper()
	one, two := newVM(t, a), newVM(t, b)
	args := []uint64{0, 1, 8, 16, 38, 40, 41, 0x20000, 0x20008, 0x7e020000, 0x10000000, 0x02000000,
		0xffffffff, 0xfffffffe, 1 << 32, 1<<32 | 40, 0xffffffffffffffff}
	for _, arch := range []uint32{0xc000003e, 0x40000003, 0xc00000b7} {
		for _, x32 := range []uint32{0, 1 << 30} {
			args := args
			if x32 != 0 || arch == 0xc00000b7 {
				args = args[:2]
			}
			for nr := uint32(0); nr < 600; nr++ {
				for _, arg := range args {
					if x, y := decide(t, one, arch, nr|x32, arg), decide(t, two, arch, nr|x32, arg); x != y {
						return fmt.Sprintf("architecture %#x, call %#x, argument %#x: %#x and %#x", arch, nr|x32, arg, x, y)
					}
				}
			}
		}
		for _, nr := range []uint32{0xffffffff, 0x80000000, 0x7fffffff, 100000} {
			if x, y := decide(t, one, arch, nr, 0), decide(t, two, arch, nr, 0); x != y {
				return fmt.Sprintf("architecture %#x, call %#x: %#x and %#x", arch, nr, x, y)
			}
		}
	}
	return ""
}

// newVM makes a machine of a program as the kernel has it.
func newVM(t testing.TB, program []byte) *bpf.VM {
	t.Helper()
	if len(program) < 8 {
		t.Fatalf("the kernel has a filter of %d bytes", len(program))
	}
	var raw []bpf.RawInstruction
	for ; len(program) > 0; program = program[8:] {
		raw = append(raw, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(program), Jt: program[2], Jf: program[3],
			K: binary.NativeEndian.Uint32(program[4:])})
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the kernel has a filter that is no program")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// decide runs a program on a struct seccomp_data whose first and second argument are arg.
// The machine takes its words for big-endian.
func decide(t testing.TB, vm *bpf.VM, arch, nr uint32, arg uint64) int {
	var data [64]byte
	binary.BigEndian.PutUint32(data[0:], nr)
	binary.BigEndian.PutUint32(data[4:], arch)
	for at := 16; at < 32; at += 8 {
		binary.BigEndian.PutUint32(data[at:], uint32(arg))
		binary.BigEndian.PutUint32(data[at+4:], uint32(arg>>32))
	}
	verdict, err := vm.Run(data[:])
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}
