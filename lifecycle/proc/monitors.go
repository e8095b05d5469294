package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Monitor is a process of the monitor's program, or the first one of a pod.
type Monitor struct {
	PID  int
	Args []string
}

// Monitors are all of this host, whichever daemon started them. What /proc does not let be
// read is left out.
func Monitors() (found []Monitor) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		// Before 0185 pods' inits were monitors by name, too.
		if strings.HasSuffix(args[0], "vitrine-monitor") || args[0] == "vitrine-pod" {
			found = append(found, Monitor{pid, args})
		}
	}
	return found
}

// Under finds those among monitors whose containers' directories, or the pod inits
// whose sandboxes' directories, lie in dir, by their command lines. It is how a
// daemon finds what its predecessor started and did not live to hear from.
func Under(monitors []Monitor, dir string) map[pod.ID]int {
	found := map[pod.ID]int{}
	for _, p := range monitors {
		for _, arg := range p.Args[1:] {
			if id, err := pod.ParseID(filepath.Base(arg)); err == nil && filepath.Dir(arg) == dir {
				found[id] = p.PID
			}
		}
	}
	return found
}
