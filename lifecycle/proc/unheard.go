package proc

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Unheard says why a process has not ended by a signal, of pod's constants, by the masks in
// its status (proc_pid_status(5)). A process that is no PID 1 of its namespace ends by what
// it has no handler for. Empty: it has a handler, is gone, or cannot be read.
func Unheard(pid int, signal string) string {
	_, number, err := spec.ParseSignal(signal)
	if err != nil || pid <= 0 || number < 1 || number > 64 {
		return ""
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	masks, first := map[string]bool{}, false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch key {
		case "NSpid":
			first = fields[len(fields)-1] == "1"
		case "SigBlk", "SigIgn", "SigCgt":
			mask, err := strconv.ParseUint(fields[0], 16, 64)
			masks[key] = err == nil && mask>>(number-1)&1 == 1
		}
	}
	switch {
	case lines.Err() != nil || len(masks) < 3:
		return ""
	case masks["SigIgn"]:
		return pod.Ignored
	case masks["SigBlk"]:
		return pod.Blocked
	case !masks["SigCgt"] && first:
		return pod.Unhandled
	}
	return ""
}
