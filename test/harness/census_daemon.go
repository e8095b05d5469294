package harness

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

var inode = regexp.MustCompile(`:?\[?\d+\]?$`)

// countDaemon counts the daemon's descriptors by what they refer to, its threads
// and its goroutines.
func countDaemon(d *Daemon, pid int, counts map[string]int) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		target, err := os.Readlink(dir + "/" + fd.Name())
		if err != nil {
			continue // closed meanwhile
		}
		counts["fds to "+fdKind(target)]++
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	counts["threads"] = len(tasks)
	if n, err := goroutines(d); err == nil {
		counts["goroutines"] = n
	}
	return nil
}

// settle waits until the daemon has loaded its eBPF programs, which it does while it
// serves already: they are part of what it has at rest. It asks once per process.
func (d *Daemon) settle() error {
	pid := d.PID()
	if pid == 0 || pid == d.settled {
		return nil
	}
	for deadline := time.Now().Add(Scale(time.Minute)); ; {
		_, err := d.Get("/v1/check") // answers when the programs are loaded
		if err == nil {
			d.settled = pid
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for the daemon's programs: %w", err)
		}
		select {
		case <-d.Died():
			return nil // what it has at rest is nothing
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fdKind strips what differs between two descriptors of one kind.
func fdKind(target string) string {
	if strings.HasPrefix(target, "/") {
		if strings.Contains(target, "/containers/") {
			return "container directories"
		}
		if strings.Contains(target, "/netns/") {
			return "namespaces"
		}
		if strings.HasPrefix(target, cgroupRoot) {
			return "cgroup files"
		}
		return "files"
	}
	return inode.ReplaceAllString(target, "")
}

// goroutines asks the daemon's metrics page.
func goroutines(d *Daemon) (int, error) {
	page, err := d.Metrics()
	if err != nil {
		return 0, err
	}
	var n int
	for line := range strings.Lines(page) {
		if _, err := fmt.Sscanf(line, "go_goroutines %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("no go_goroutines in /metrics")
}
