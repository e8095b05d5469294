package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Bounds of the kill without cgroup.kill.
const (
	killRounds = 50
	freezeWait = 200 * time.Millisecond
)

// Kill sends SIGKILL to all processes of a cgroup and of those below it, so that
// none can escape by forking. It does not wait for them to be gone. A cgroup
// without processes is success; one that does not exist is pod.ErrNotFound.
func (c *Cgroups) Kill(fsPath string) error {
	if err := c.checkPath(fsPath); err != nil {
		return err
	}
	err := c.kill(fsPath)
	if errors.Is(err, fs.ErrNotExist) {
		return gone(fsPath)
	}
	if err != nil {
		return fmt.Errorf("kill processes of cgroup %s: %w", fsPath, err)
	}
	return nil
}

func (c *Cgroups) kill(fsPath string) error {
	main := c.mainDir(fsPath)
	if c.Mode() == V2 {
		err := writeFile(main, "cgroup.kill", "1") // since Linux 5.14
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return c.freezeAndKill(main, c.freezerOf(fsPath))
}

// freezeAndKill stops all processes before it kills them: a frozen process does not
// fork. Without a freezer, or when a process hangs in the kernel and the freeze does
// not complete, it kills until no process is new.
//
// In a cgroup without processes, and without cgroups below from which one could come, there
// is nobody who could fork, and nothing is frozen: that is how a container's last process
// usually leaves it.
func (c *Cgroups) freezeAndKill(main string, freezer freezer) error {
	below, err := subdirs(main)
	if err != nil {
		return err
	}
	if own, err := procsOf(main); err != nil || len(own)+len(below) == 0 {
		return err
	}
	frozen := freezer.freeze()
	defer freezer.thaw()
	killed := map[int]bool{}
	for range killRounds {
		pids, err := procsBelow(main)
		if err != nil {
			return err
		}
		fresh := false
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
			fresh = fresh || !killed[pid]
			killed[pid] = true
		}
		if !fresh || frozen {
			return nil
		}
	}
	return fmt.Errorf("%w: new processes appeared in each of %d rounds", pod.ErrExhausted, killRounds)
}

// freezer is the control of one cgroup's freezer; the zero value has none.
type freezer struct {
	dir, file, stop, run string
	frozen               func(dir string) bool
}

func (c *Cgroups) freezerOf(fsPath string) freezer {
	dir := c.dir("freezer", fsPath)
	if dir == "" {
		return freezer{}
	}
	if c.Mode() == V2 {
		return freezer{dir, "cgroup.freeze", "1", "0", func(dir string) bool {
			events, err := readKeys(dir, "cgroup.events")
			return err == nil && events["frozen"] == 1
		}}
	}
	return freezer{dir, "freezer.state", "FROZEN", "THAWED", func(dir string) bool {
		state, err := readFile(dir, "freezer.state")
		return err == nil && strings.TrimSpace(state) == "FROZEN"
	}}
}

// freeze reports whether all processes are stopped.
func (f freezer) freeze() bool {
	if f.dir == "" {
		return false
	}
	deadline := time.Now().Add(freezeWait)
	for pause := 50 * time.Microsecond; ; pause *= 2 {
		// v1 needs the request again for processes that forked meanwhile.
		if writeFile(f.dir, f.file, f.stop) != nil {
			return false
		}
		if f.frozen(f.dir) {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}

func (f freezer) thaw() {
	if f.dir != "" {
		_ = writeFile(f.dir, f.file, f.run) // the cgroup may be gone by now
	}
}
