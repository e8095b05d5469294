package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeOwned makes a user namespace and, owned by it, the other namespaces of flags, and
// calls pin with the /proc/…/ns directory in which they can be found during the call.
//
// A process with threads can neither unshare nor enter a user namespace, so a child
// is born in it. The child need not do anything, only be there while its namespaces
// are pinned: it is this program's own binary, traced, and stops at its execve
// before its first instruction. It is then killed; none of its code ever runs.
func makeOwned(users UserNS, flags int, pin func(proc string) error) error {
	return onThread(func() (err error) { // the tracer is the thread that made the child
		cmd := exec.Cmd{Path: "/proc/self/exe", Args: []string{"vitrine-namespaces"}, Env: []string{}, Dir: "/"}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:                 uintptr(flags),
			UidMappings:                sysMaps(users.UIDs),
			GidMappings:                sysMaps(users.GIDs),
			GidMappingsEnableSetgroups: true,
			Ptrace:                     true,
			Pdeathsig:                  syscall.SIGKILL,
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("make user namespace: %w", err)
		}
		defer func() {
			killErr := cmd.Process.Kill()
			if waitErr := reap(cmd.Process.Pid); killErr == nil {
				killErr = waitErr
			}
			cmd.Process.Release()
			err = errors.Join(err, killErr)
		}()
		var status unix.WaitStatus
		if _, err := wait4(cmd.Process.Pid, &status, unix.WALL); err != nil {
			return fmt.Errorf("wait for the user namespace's first process: %w", err)
		}
		if !status.Stopped() {
			return fmt.Errorf("the user namespace's first process ended (wait status %#x) instead of stopping", uint32(status))
		}
		return pin("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns")
	})
}

func sysMaps(maps []IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Size)}
	}
	return out
}

// reap waits until the process has ended, past any stop on the way.
func reap(pid int) error {
	for {
		var status unix.WaitStatus
		if _, err := wait4(pid, &status, unix.WALL); err != nil {
			return os.NewSyscallError("wait4", err)
		}
		if status.Exited() || status.Signaled() {
			return nil
		}
	}
}

func wait4(pid int, status *unix.WaitStatus, options int) (int, error) {
	for {
		got, err := unix.Wait4(pid, status, options, nil)
		if !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}
