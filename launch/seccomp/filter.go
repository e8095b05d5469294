//go:build cgo

package seccomp

import (
	"encoding/binary"
	"errors"
	"os"
)

// A ScmpFilter is a filter in the making: an architecture list, attributes and rules,
// written down in the order in which they came. The zero value is good for nothing but
// asking which attributes it would accept. Not safe for concurrent use.
type ScmpFilter struct {
	valid               bool
	script              []byte // what libseccomp has to be told, as entries
	nnp, log, ssb, wait bool
}

// An entry of a script is a letter and numbers in little-endian order:
//
//	'i' action:4                                          the default action; always first
//	'a' architecture:4
//	'o' level:4                                           optimization
//	'r' action:4 call:4 count:4 (arg:4 op:4 a:8 b:8)*     a rule
const (
	entryInit     = 'i'
	entryArch     = 'a'
	entryOptimize = 'o'
	entryRule     = 'r'
)

// errInvalid is returned by methods of a zero filter.
var errInvalid = errors.New("filter is not initialized")

// NewFilter begins a filter for the native architecture. Whatever no rule matches gets
// action.
func NewFilter(action ScmpAction) (*ScmpFilter, error) {
	if Began != nil {
		Began()
	}
	if action == ActInvalid {
		return nil, errors.New("the default action is invalid")
	}
	f := &ScmpFilter{valid: true, script: make([]byte, 0, 16<<10)}
	f.note(entryInit, uint32(action))
	return f, nil
}

func (f *ScmpFilter) note(entry byte, numbers ...uint32) {
	f.script = append(f.script, entry)
	for _, n := range numbers {
		f.script = binary.LittleEndian.AppendUint32(f.script, n)
	}
}

// AddArch adds an architecture. One that is there already is no error.
func (f *ScmpFilter) AddArch(arch ScmpArch) error {
	if !f.valid {
		return errInvalid
	}
	f.note(entryArch, uint32(arch))
	return nil
}

// SetOptimize chooses how the program looks numbers up: 1 by priority, 2 in a binary tree.
func (f *ScmpFilter) SetOptimize(level int) error {
	if !f.valid {
		return errInvalid
	}
	f.note(entryOptimize, uint32(level))
	return nil
}

// AddRule adds a rule for a system call whatever its arguments.
func (f *ScmpFilter) AddRule(call ScmpSyscall, action ScmpAction) error {
	return f.AddRuleConditional(call, action, nil)
}

// AddRuleConditional adds a rule that holds if all conditions do. On architectures where
// a rule cannot be expressed exactly, libseccomp widens it.
func (f *ScmpFilter) AddRuleConditional(call ScmpSyscall, action ScmpAction, conditions []ScmpCondition) error {
	if !f.valid {
		return errInvalid
	}
	if call == offeredCall {
		return nil
	}
	f.note(entryRule, uint32(action), uint32(call), uint32(len(conditions)))
	for _, c := range conditions {
		f.script = binary.LittleEndian.AppendUint32(f.script, uint32(c.Argument))
		f.script = binary.LittleEndian.AppendUint32(f.script, uint32(c.Op))
		f.script = binary.LittleEndian.AppendUint64(f.script, c.Operand1)
		f.script = binary.LittleEndian.AppendUint64(f.script, c.Operand2)
	}
	return nil
}

// ExportBPF writes the program, struct sock_filter after struct sock_filter.
func (f *ScmpFilter) ExportBPF(file *os.File) error {
	program, err := f.program()
	if err != nil {
		return err
	}
	_, err = file.Write(program)
	return err
}

// program returns the offered program if it was made of the same script, else compiles.
func (f *ScmpFilter) program() ([]byte, error) {
	if !f.valid {
		return nil, errInvalid
	}
	key := keyOf(f.script)
	if offer != nil && offer.Key == key {
		return offer.Program, nil
	}
	program, err := compile(f.script)
	if err == nil && Compiled != nil {
		Compiled(Offer{Key: key, Program: program})
	}
	return program, err
}

// The attributes below do not change the program; libcontainer asks for them when it
// loads it.

// SetNoNewPrivsBit says whether loading sets no_new_privs.
func (f *ScmpFilter) SetNoNewPrivsBit(on bool) error { return f.set(&f.nnp, on, "NoNewPrivs", 0) }

// GetNoNewPrivsBit returns what SetNoNewPrivsBit was told.
func (f *ScmpFilter) GetNoNewPrivsBit() (bool, error) { return f.nnp, f.check() }

// SetLogBit asks for SECCOMP_FILTER_FLAG_LOG.
func (f *ScmpFilter) SetLogBit(on bool) error { return f.set(&f.log, on, "SECCOMP_FILTER_FLAG_LOG", 3) }

// GetLogBit returns what SetLogBit was told.
func (f *ScmpFilter) GetLogBit() (bool, error) { return f.log, f.check() }

// SetSSB asks for SECCOMP_FILTER_FLAG_SPEC_ALLOW.
func (f *ScmpFilter) SetSSB(on bool) error {
	return f.set(&f.ssb, on, "SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4)
}

// GetSSB returns what SetSSB was told.
func (f *ScmpFilter) GetSSB() (bool, error) { return f.ssb, f.check() }

// SetWaitKill asks for SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
func (f *ScmpFilter) SetWaitKill(on bool) error {
	return f.set(&f.wait, on, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 7)
}

// GetWaitKill returns what SetWaitKill was told.
func (f *ScmpFilter) GetWaitKill() (bool, error) { return f.wait, f.check() }

func (f *ScmpFilter) check() error {
	if !f.valid {
		return errInvalid
	}
	return nil
}

// set sets an attribute that needs an API level; asking a zero filter only checks that.
func (f *ScmpFilter) set(bit *bool, on bool, ability string, level uint) error {
	if have, _ := GetAPI(); have < level {
		return &VersionError{ability: ability, level: level, have: have}
	}
	if err := f.check(); err != nil {
		return err
	}
	*bit = on
	return nil
}
