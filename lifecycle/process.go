package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// monitorProcess is a process of the monitor's program, or the first one of a pod.
type monitorProcess struct {
	pid  int
	args []string
}

// monitorProcesses are all of this host.
func monitorProcesses() (found []monitorProcess) {
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
			found = append(found, monitorProcess{pid, args})
		}
	}
	return found
}

// liveMonitors finds those among processes whose containers' directories, or the pod inits
// whose sandboxes' directories, lie in dir, by their command lines. It is how a
// daemon finds what its predecessor started and did not live to hear from.
func liveMonitors(processes []monitorProcess, dir string) map[pod.ID]int {
	found := map[pod.ID]int{}
	for _, p := range processes {
		for _, arg := range p.args[1:] {
			if id, err := pod.ParseID(filepath.Base(arg)); err == nil && filepath.Dir(arg) == dir {
				found[id] = p.pid
			}
		}
	}
	return found
}

// endProcess kills a process by pidfd and waits until it is gone.
func endProcess(ctx context.Context, pid int, bound time.Duration) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pidfd of %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	deadline := time.Now().Add(bound)
	for {
		left := time.Until(deadline)
		if left <= 0 || ctx.Err() != nil {
			return fmt.Errorf("kill %d: %w: it is still there (%s)", pid, pod.ErrDeadline, processState(pid))
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for %d: %w", pid, err)
		}
	}
}

// startSandboxInit starts the process that holds a shared pid namespace. It outlives the
// daemon. A pod's own user namespace owns the pid namespace, or no container could mount
// its /proc.
func (m *Manager) startSandboxInit(ctx context.Context, sb *pod.Sandbox) error {
	if m.enterer == nil {
		return fmt.Errorf("start pod init: %w: %s is needed", pod.ErrUnavailable, m.enterPath())
	}
	ns := sb.Namespaces
	joined := slices.DeleteFunc([]string{ns.User, ns.Net, ns.IPC, ns.UTS}, func(path string) bool { return path == "" })
	pid, err := m.enterer.Hold(m.store.SandboxDir(sb.ID), ns.User != "", joined) // the directory names it for recovery
	if err != nil {
		return fmt.Errorf("start pod init: %w", err)
	}
	start, err := processStart(pid)
	if err != nil {
		return errors.Join(fmt.Errorf("start pod init: %w", err), endProcess(ctx, pid, killBound))
	}
	sb.Init = pod.Process{PID: pid, StartTime: start}
	sb.Namespaces.PID = fmt.Sprintf("/proc/%d/ns/pid", pid)
	if e, err := m.index.sandbox(string(sb.ID)); err == nil {
		// On record at once: recovery of an interrupted creation must find it.
		_, err = m.putSandbox(e, pod.Creating, func(next *pod.Sandbox) { next.Init, next.Namespaces = sb.Init, sb.Namespaces })
		return err
	}
	return nil
}

// stopSandboxInit ends the pod's init, and with it everything in its pid
// namespace. Absence is success.
func (m *Manager) stopSandboxInit(ctx context.Context, sb pod.Sandbox) error {
	if e, err := m.index.sandbox(string(sb.ID)); err == nil {
		sb = *e.value.Load()
	}
	if !alive(sb.Init) {
		return nil
	}
	if err := endProcess(ctx, sb.Init.PID, killBound); err != nil {
		return fmt.Errorf("end pod init: %w", err)
	}
	return nil
}

// checkPinned says whether path still is a namespace.
func checkPinned(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("%s is no namespace", path)
	}
	return nil
}
