package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
)

// StartTime reads field 22 of /proc/PID/stat, which tells two processes with
// the same pid apart (proc_pid_stat(5)): clock ticks since the boot. It is an error when
// there is no such process.
func StartTime(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// State is the process's state letter with its kernel wait channel, for
// messages about one that does not end.
func State(pid int) string {
	fields, err := stat(pid)
	if err != nil {
		return "gone"
	}
	return strings.TrimSpace("state " + fields[0] + " " + waitChannel(pid))
}

// StateAndWait is the process's state letter and the kernel function that it sleeps in; empty
// when it is gone, or does not sleep.
func StateAndWait(pid int) (state, wait string) {
	fields, err := stat(pid)
	if err != nil {
		return "", ""
	}
	return fields[0], strings.Trim(waitChannel(pid), "0 ")
}

// waitChannel is "0" for a process that does not sleep (proc_pid_wchan(5)).
func waitChannel(pid int) string {
	channel, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	return string(channel)
}

// stat returns the fields of /proc/PID/stat behind the command's name,
// which may hold blanks and parentheses; the first is the state.
func stat(pid int) ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields, nil
}

// Alive says whether p still is the process that it named, a zombie included; nobody is not.
func Alive(p pod.Process) bool {
	if p.PID == 0 {
		return false
	}
	start, err := StartTime(p.PID)
	return err == nil && start == p.StartTime
}

// ResidentBytes is a process's resident memory, 0 when it is gone (proc_pid_statm(5)).
func ResidentBytes(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(raw), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// MaxChildren bounds the children that Zombies looks at.
const MaxChildren = 1000

// Zombies counts children of a process's first thread that have ended and not been
// waited for (proc_pid_status(5): state Z); orphans become children of that thread.
func Zombies(pid int) (n int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	children := strings.Fields(string(raw))
	for _, child := range children[:min(len(children), MaxChildren)] {
		if id, err := strconv.Atoi(child); err == nil {
			if fields, err := stat(id); err == nil && fields[0] == "Z" {
				n++
			}
		}
	}
	return n
}
