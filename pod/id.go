package pod

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// ID names a sandbox or a container: 64 lower-case hexadecimal digits, drawn at
// random. The zero value is no ID and is never valid.
type ID string

// NewID draws a fresh ID. It cannot collide in practice (256 random bits).
func NewID() ID {
	var raw [32]byte
	rand.Read(raw[:]) // never fails: crypto/rand aborts the process instead.
	return ID(hex.EncodeToString(raw[:]))
}

// ParseID accepts exactly what NewID produces. Anything else is ErrInvalid: IDs
// become path elements, so a half-valid one must not exist.
func ParseID(s string) (ID, error) {
	if len(s) != 64 || !isHex(s) {
		return "", fmt.Errorf("%w: id %.80q is not 64 lower-case hexadecimal digits", ErrInvalid, s)
	}
	return ID(s), nil
}

// Short returns the first 13 digits, the form that people and crictl use.
func (id ID) Short() string {
	if len(id) > 13 {
		return string(id[:13])
	}
	return string(id)
}

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
