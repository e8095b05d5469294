package proc

import (
	"bytes"
	"strconv"
)

// Field is a field of a process's status (proc_pid_status(5)), without the blanks around it.
// found is false for one that is not there.
func Field(status []byte, key string) (value string, found bool) {
	for line := range bytes.Lines(status) {
		if rest, is := bytes.CutPrefix(line, []byte(key+":")); is {
			return string(bytes.TrimSpace(rest)), true
		}
	}
	return "", false
}

// Mask is a field that is a hexadecimal mask, such as CapBnd or SigIgn; 0 for one that is
// not there.
func Mask(status []byte, key string) uint64 {
	value, _ := Field(status, key)
	mask, _ := strconv.ParseUint(value, 16, 64)
	return mask
}
