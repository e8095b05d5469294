package libct

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// create makes the container and leaves its init waiting at launch.ExecFifo.
func (j *job) create() (pid int, err error) {
	bare := j.findCgroups()
	spec, err := j.spec()
	if err != nil {
		return 0, invalid("libct.spec", err)
	}
	j.line.end("libct.spec")

	config, err := j.config(spec)
	if err != nil {
		return 0, invalid("libct.config", err)
	}
	profile, keep := offerFilter(config, j.request.SeccompCache)
	process, console, err := newProcess(spec.Process)
	if err != nil {
		return 0, invalid("libct.config", err)
	}
	defer console.Close()
	process.Init = true
	if givenPipe(launch.ExecFD) {
		process.ExtraFiles = []*os.File{os.NewFile(launch.ExecFD, "exec")}
	}
	j.bare = <-bare
	container, err := libcontainer.Create(j.request.Root, j.request.ID, config)
	if err != nil {
		return 0, invalid("libct.config", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, undo(container, process))
			j.line.end("libct.undo")
		}
	}()
	j.timeHooks(config.Hooks, "libct.limits", configs.Prestart, configs.CreateRuntime)
	j.timeHooks(config.Hooks, "libct.ready", configs.Poststart)
	wait := j.watchHooks(process, config.Hooks[configs.CreateContainer])
	defer wait()
	facts, unknown := j.facts(container, profile)
	defer j.tellFacts(facts, unknown)()
	j.line.end("libct.config")

	if j.request.Enterer != "" {
		if pid, err := j.bear(container, spec.Process, facts, unknown); err == nil {
			j.way = launch.WayEnter
			return pid, nil
		} else {
			j.way = clean(err.Error())
			j.way = j.way[:min(len(j.way), maxMessage)]
		}
	}
	if err := j.start(container, process, createMarks); err != nil {
		return 0, err
	}
	_ = keep(j.line.compiled()) // a full disk costs the next container its short cut, not this one its start
	if err := console.forward(); err != nil {
		return 0, err
	}
	return process.Pid()
}

// config makes libcontainer's configuration of spec.
func (j *job) config(spec *specs.Spec) (*configs.Config, error) {
	if !filepath.IsAbs(j.request.Root) {
		return nil, fmt.Errorf("state directory %q is not absolute", j.request.Root)
	}
	// The conversion takes the bundle for relative paths from the working directory.
	if err := os.Chdir(j.request.Bundle); err != nil {
		return nil, fmt.Errorf("enter bundle: %w", err)
	}
	return specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:       j.request.ID,
		UseSystemdCgroup: j.request.Runtime.SystemdCgroup,
		Spec:             spec,
	})
}

// start starts process in container and has the steps timed. After it, the process
// has been set up completely, its seccomp filter included.
func (j *job) start(container *libcontainer.Container, process *libcontainer.Process, marks []mark) error {
	// The init inherits this variable and nothing else; it needs one thread.
	if err := os.Setenv("GOMAXPROCS", "1"); err != nil {
		return err
	}
	if container.Config().Seccomp == nil {
		marks = withoutFilter(marks)
	}
	j.line.expect(marks)
	err := container.Start(process)
	if step := j.line.finish(); err != nil {
		j.failed = step
	}
	return err
}

// watchHooks has the hooks timed that the init runs, from the moment at which libcontainer
// lets it run them. The returned function ends that.
func (j *job) watchHooks(process *libcontainer.Process, hooks configs.HookList) (wait func()) {
	if len(hooks) == 0 {
		return func() {}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j.line.after("libct.limits", func() {
		pid, err := process.Pid()
		if err != nil {
			return
		}
		once.Do(func() {
			go func() {
				defer close(done)
				j.line.watchHooks(pid, hooks, stop)
			}()
		})
	})
	return func() {
		close(stop)
		once.Do(func() { close(done) }) // it never began
		<-done
	}
}

// undo removes a container whose create failed.
func undo(container *libcontainer.Container, process *libcontainer.Process) error {
	if _, err := process.Pid(); err == nil { // it may live: an error came after its start
		_ = process.Signal(unix.SIGKILL)
		_, _ = process.Wait()
	}
	if err := container.Destroy(); err != nil {
		return fmt.Errorf("undo create: %w", err)
	}
	return nil
}
