package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/pod"
)

// deleteExternal lets an external runtime remove what it keeps of a container.
func (m *Manager) deleteExternal(ctx context.Context, c pod.Container, handler Handler) error {
	request := filepath.Join(m.store.ContainerDir(c.ID), deleteFile)
	raw, err := json.Marshal(launch.Request{
		Op: launch.OpDelete, ID: string(c.ID), Bundle: m.store.ContainerDir(c.ID), Root: m.runtimeRoot(),
		Runtime: m.runtime(handler),
	})
	if err != nil {
		return fmt.Errorf("delete container %s: %w", c.ID.Short(), err)
	}
	if err := os.WriteFile(request, raw, 0o600); err != nil {
		return fmt.Errorf("delete container %s: %w", c.ID.Short(), err)
	}
	reply, err := runLauncher(ctx, m.config.launcher(handler), request)
	if err != nil {
		return fmt.Errorf("delete container %s: %w", c.ID.Short(), err)
	}
	if reply.Error != nil {
		return fmt.Errorf("delete container %s: %w", c.ID.Short(), launchError(reply.Error))
	}
	return nil
}

// maxReply bounds what a launcher may answer, in bytes.
const maxReply = 1 << 20

// runLauncher runs the launcher for an operation that starts no process.
func runLauncher(ctx context.Context, path, request string) (launch.Reply, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return launch.Reply{}, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, path, request)
	cmd.Env = append(os.Environ(), launch.Environ()...)
	cmd.ExtraFiles = []*os.File{w} // becomes launch.ReplyFD
	// What the launcher has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		w.Close()
		return launch.Reply{}, fmt.Errorf("run launcher: %w", err)
	}
	w.Close()
	text, readErr := io.ReadAll(io.LimitReader(r, maxReply))
	if err := cmd.Wait(); err != nil && len(text) == 0 {
		return launch.Reply{}, fmt.Errorf("run launcher: %w", err)
	}
	if readErr != nil {
		return launch.Reply{}, fmt.Errorf("read launcher's reply: %w", readErr)
	}
	return launch.ParseReply(string(text))
}
