package libct

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// exec starts request.Process in a running container. It returns when the kernel has
// accepted the execve.
func (j *job) exec() (pid int, err error) {
	var p specs.Process
	if err := json.Unmarshal(j.request.Process, &p); err != nil {
		return 0, invalid("libct.spec", fmt.Errorf("parse process: %w", err))
	}
	if err := checkProcess(&p); err != nil {
		return 0, invalid("libct.spec", err)
	}
	j.line.end("libct.spec")

	container, err := j.load()
	if err != nil {
		return 0, err
	}
	// An update may have changed the score since the container was made. libcontainer
	// takes it from the container's configuration, which this process has to itself.
	if score := container.Config().OomScoreAdj; score != nil && p.OOMScoreAdj != nil {
		*score = *p.OOMScoreAdj
	}
	process, console, err := newProcess(&p)
	if err != nil {
		return 0, invalid("libct.config", err)
	}
	defer console.Close()
	status, ours, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("make status pipe: %w", err)
	}
	defer status.Close()
	defer ours.Close()
	process.ExtraFiles = []*os.File{ours}
	j.line.end("libct.load")

	if err := j.start(container, process, execMarks); err != nil {
		if now, serr := container.Status(); serr == nil && now == libcontainer.Stopped {
			return 0, errGone // it died meanwhile, whatever that made of the start
		}
		return 0, err
	}
	_ = ours.Close()
	text, err := io.ReadAll(io.LimitReader(status, 4096))
	if failed := launch.ExecError(string(text)); failed != nil {
		_, _ = process.Wait()
		return 0, failed
	}
	if err == nil {
		err = console.forward()
	}
	if err != nil {
		_ = process.Signal(unix.SIGKILL)
		_, _ = process.Wait()
		return 0, err
	}
	j.line.end("libct.exec")
	return process.Pid()
}

// load finds a container in which a process can be started.
func (j *job) load() (*libcontainer.Container, error) {
	container, err := libcontainer.Load(j.request.Root, j.request.ID)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("load container: %w", err)
	}
	status, err := container.Status()
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at container: %w", err)
	case status == libcontainer.Stopped:
		return nil, errGone
	case status == libcontainer.Paused:
		return nil, invalid("libct.load", errors.New("container is paused"))
	}
	return container, nil
}
