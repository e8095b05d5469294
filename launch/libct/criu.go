package libct

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// criuOptions are the same for dump and restore, of libcontainer and (criuFlags) of OCI
// runtimes. Established connections and locks are part of a process's state: a dump
// without them would refuse the process. Control groups are the runtime's, not criu's; runc 1.1
// has no word for that.
func (j *job) criuOptions() *libcontainer.CriuOpts {
	return &libcontainer.CriuOpts{
		ImagesDirectory: j.request.Criu.Images, WorkDirectory: j.request.Criu.Work,
		LeaveRunning: true, TcpEstablished: true, FileLocks: true, ManageCgroupsMode: "ignore", StatusFd: -1,
	}
}

func (j *job) criuFlags() []string {
	return []string{"--image-path", j.request.Criu.Images, "--work-path", j.request.Criu.Work,
		"--tcp-established", "--file-locks"}
}

// criuConfig makes restored processes wait, and closes connections whose other ends spoke
// to another address (criu(8), --leave-stopped and --tcp-close). They stay in the cgroup
// that the runtime put criu into: on v2, runc's criu would move them to the one of their
// checkpoint.
const criuConfig = "leave-stopped\ntcp-close\nmanage-cgroups=ignore\n"

// criuAnnotation names, to libcontainer and to OCI runtimes, a file of criu's options.
const criuAnnotation = "org.criu.config"

// findCriu puts the program at the front of what libcontainer and runtimes search.
func (j *job) findCriu() error {
	c := j.request.Criu
	if c == nil || filepath.Base(c.Path) != "criu" {
		return invalid("libct.criu", errors.New("the request names no program criu"))
	}
	return os.Setenv("PATH", filepath.Dir(c.Path)+":"+os.Getenv("PATH"))
}

// checkpoint has criu write the processes down.
func (j *job) checkpoint() error {
	if err := j.findCriu(); err != nil {
		return err
	}
	container, err := libcontainer.Load(j.request.Root, j.request.ID)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("load container: %w", err)
	}
	if status, err := container.Status(); err != nil {
		return fmt.Errorf("look at container: %w", err)
	} else if status == libcontainer.Stopped {
		return errGone
	}
	j.line.end("libct.load")
	err = container.Checkpoint(j.criuOptions())
	j.line.end("libct.dump")
	return j.criuFailed("libct.dump", "dump.log", err)
}

// restore makes the container of the images and leaves its processes stopped.
func (j *job) restore() (pid int, err error) {
	if err := j.findCriu(); err != nil {
		return 0, err
	}
	spec, err := j.spec()
	if err != nil {
		return 0, invalid("libct.spec", err)
	}
	config, err := j.config(spec)
	if err != nil {
		return 0, invalid("libct.config", err)
	}
	options, err := j.criuConfigFile()
	if err != nil {
		return 0, err
	}
	config.Labels = slices.DeleteFunc(config.Labels, func(l string) bool { return strings.HasPrefix(l, criuAnnotation+"=") })
	config.Labels = append(config.Labels, criuAnnotation+"="+options)
	process, console, err := newProcess(spec.Process)
	if err != nil {
		return 0, invalid("libct.config", err)
	}
	defer console.Close()
	process.Init = true
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
	j.line.end("libct.config")
	err = container.Restore(process, j.criuOptions())
	j.line.end("libct.restore")
	if err != nil {
		return 0, j.criuFailed("libct.restore", "restore.log", err)
	}
	if err := errors.Join(console.forward(), os.WriteFile(options, nil, 0o600)); err != nil {
		return 0, err
	}
	return process.Pid()
}

// resume lets the processes of a restored container go.
func (j *job) resume() (int, error) {
	container, err := libcontainer.Load(j.request.Root, j.request.ID)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return 0, errGone
	}
	if err != nil {
		return 0, fmt.Errorf("load container: %w", err)
	}
	pids, err := container.Processes()
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	state, err := container.State()
	if err != nil {
		return 0, fmt.Errorf("look at container: %w", err)
	}
	err = letGo(pids)
	j.line.end("libct.resume")
	return state.InitProcessPid, err
}

// letGo continues stopped processes. Those that are gone are none of them.
func letGo(pids []int) error {
	found := false
	for _, pid := range pids {
		err := unix.Kill(pid, unix.SIGCONT)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("continue process %d: %w", pid, err)
		}
		found = found || err == nil
	}
	if !found {
		return errGone
	}
	return nil
}

// criuConfigFile writes criu's options into the bundle. The container keeps the file's
// name: it is emptied after the restore, because options would count for the next dump, too.
func (j *job) criuConfigFile() (string, error) {
	path := filepath.Join(j.request.Bundle, "criu.conf")
	if err := os.WriteFile(path, []byte(criuConfig), 0o600); err != nil {
		return "", fmt.Errorf("write criu's options: %w", err)
	}
	return path, nil
}

// criuFailed puts the first error of criu's log into the message: what its runtime says
// of it is a type and a number.
func (j *job) criuFailed(step, log string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if told := criuError(filepath.Join(j.request.Criu.Work, log)); told != "" {
		text = "criu: " + told
	}
	return &launch.Error{Step: step, Kind: launch.KindInternal, Message: text}
}

// maxCriuLog bounds what is read of criu's log, in bytes from its end.
const maxCriuLog = 1 << 20

// harmless are complaints with which criu goes on.
var harmless = []string{"RLIMIT_NOFILE", "Kerndat"}

// criuError finds the first complaint in a log, without its time and place:
//
//	(00.449285) Error (criu/files-reg.c:1790): Can't lookup mount=27 for fd=1 path=/out
func criuError(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(raw[max(0, len(raw)-maxCriuLog):]) {
		_, rest, found := strings.Cut(strings.ToValidUTF8(string(line), "?"), " Error (")
		if !found || slices.ContainsFunc(harmless, func(s string) bool { return strings.Contains(rest, s) }) {
			continue
		}
		if _, text, found := strings.Cut(rest, "): "); found {
			return clean(strings.TrimSpace(text[:min(len(text), maxMessage)]))
		}
	}
	return ""
}
