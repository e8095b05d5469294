package proc

import (
	"fmt"
	"os"
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
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	if _, whole := Field(status, "SigCgt"); !whole {
		return ""
	}
	namespaces, _ := Field(status, "NSpid") // its number in each, the innermost last
	numbers := strings.Fields(namespaces)
	first := len(numbers) > 0 && numbers[len(numbers)-1] == "1"
	in := func(mask string) bool { return Mask(status, mask)>>(number-1)&1 == 1 }
	switch {
	case in("SigIgn"):
		return pod.Ignored
	case in("SigBlk"):
		return pod.Blocked
	case !in("SigCgt") && first:
		return pod.Unhandled
	}
	return ""
}
