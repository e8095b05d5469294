//go:build cgo

package seccomp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// An Offer is a compiled program and the key of the rules it was made of.
type Offer struct {
	Key     [sha256.Size]byte
	Program []byte
}

// An offer reaches a filter through libcontainer's configuration, which is all that the
// two sides of a container's creation share: as the name of a rule's system call, which
// no library knows and therefore ignores. A library that does know it leaves the
// rule out of the filter, too.
const offerMark = "vitrine-compiled:"

// maxProgram is the kernel's limit (BPF_MAXINSNS), in bytes.
const maxProgram = 4096 * 8

// SyscallName encodes the offer as the name for a rule.
func (o Offer) SyscallName() string {
	return offerMark + base64.StdEncoding.EncodeToString(append(o.Key[:], o.Program...))
}

// ParseOffer is the inverse of SyscallName.
func ParseOffer(name string) (Offer, error) {
	text, ok := strings.CutPrefix(name, offerMark)
	if !ok {
		return Offer{}, errors.New("no compiled filter")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Offer{}, err
	}
	size := len(raw) - sha256.Size
	if size <= 0 || size > maxProgram || size%8 != 0 {
		return Offer{}, errors.New("compiled filter has an impossible size")
	}
	o := Offer{Program: raw[sha256.Size:]}
	copy(o.Key[:], raw)
	return o, nil
}

// offeredCall is the number that GetSyscallFromName gives to an offer.
const offeredCall ScmpSyscall = math.MinInt32

// State of the process, which becomes one container's init and makes one filter.
var (
	offer *Offer

	// Began, if set, is called when a filter is begun.
	Began func()
	// Compiled, if set, is called with what had to be compiled.
	Compiled func(Offer)
)

// take remembers the offer that name encodes and reports whether it is one.
func take(name string) bool {
	if !strings.HasPrefix(name, offerMark) {
		return false
	}
	if o, err := ParseOffer(name); err == nil {
		offer = &o
	}
	return true
}

// keyOf is the hash of a script and of the library that would compile it.
func keyOf(script []byte) (key [sha256.Size]byte) {
	h := sha256.New()
	major, minor, micro := GetLibraryVersion()
	native, _ := GetNativeArch()
	for _, n := range []uint32{1, uint32(major), uint32(minor), uint32(micro), uint32(native)} {
		h.Write(binary.LittleEndian.AppendUint32(nil, n))
	}
	h.Write(script)
	h.Sum(key[:0])
	return key
}
