package proc

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"
)

// Mask is a field of a process's status (proc_pid_status(5)) that is a hexadecimal mask, such
// as CapBnd or SigIgn; 0 for one that is not there.
func Mask(status []byte, key string) uint64 {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), key+":"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return n
		}
	}
	return 0
}
