package libct

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// killWait bounds how long remove waits for killed processes to end.
const killWait = 10 * time.Second

// remove kills what is left of the container and removes its cgroup and state.
func (j *job) remove() error {
	container, err := libcontainer.Load(j.request.Root, j.request.ID)
	if err != nil { // no state file, or one that cannot be read
		return j.removeUnrecorded()
	}
	config := container.Config()
	j.timeHooks(config.Hooks, "libct.delete", configs.Poststop)
	j.line.end("libct.load")

	if err := kill(container); err != nil {
		return err
	}
	j.line.end("libct.kill")
	if err := container.Destroy(); err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	j.line.endGap("libct.delete")
	return nil
}

// kill ends all processes of the container and waits until its init is gone.
func kill(container *libcontainer.Container) error {
	deadline := time.Now().Add(killWait)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		status, err := container.Status()
		if err != nil {
			return fmt.Errorf("look at container: %w", err)
		}
		if status == libcontainer.Stopped {
			return nil
		}
		err = container.Signal(unix.SIGKILL)
		if err != nil && !errors.Is(err, libcontainer.ErrNotRunning) && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill container: %w", err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill container: it still runs after %v", killWait)
		}
		time.Sleep(pause)
	}
}

// removeUnrecorded removes a container without a readable state, which is what a create
// leaves that was cut off before it wrote one: the directory, and the cgroup that the
// specification names, with all in it. An init that has joined no cgroup yet ends by
// itself, because its parent is gone. Without a directory there is nothing to remove.
func (j *job) removeUnrecorded() error {
	dir := filepath.Join(j.request.Root, j.request.ID)
	if j.request.ID == "" || filepath.Dir(dir) != filepath.Clean(j.request.Root) {
		return invalid("libct.delete", fmt.Errorf("container id %q is no name", j.request.ID))
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if spec, err := j.spec(); err == nil {
		config, err := j.config(spec)
		if err != nil {
			return fmt.Errorf("find cgroup: %w", err)
		}
		cgroup, err := manager.New(config.Cgroups)
		if err != nil {
			return fmt.Errorf("find cgroup: %w", err)
		}
		if pids, err := cgroup.GetAllPids(); err == nil {
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if err := cgroup.Destroy(); err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	j.line.end("libct.delete")
	return nil
}
