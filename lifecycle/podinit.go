package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/pod"
)

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
	start, err := proc.StartTime(pid)
	if err != nil {
		return errors.Join(fmt.Errorf("start pod init: %w", err), proc.End(ctx, pid, killBound))
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
	if !proc.Alive(sb.Init) {
		return nil
	}
	if err := proc.End(ctx, sb.Init.PID, killBound); err != nil {
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
