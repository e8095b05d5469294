package libct

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/system"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/enter"
)

// errNoFilter: the container's profile has not been learnt yet; see Learn.
var errNoFilter = fmt.Errorf("what the kernel makes of its seccomp profile is not known yet: %w", enter.ErrNeedsLibcontainer)

// bear makes the container's init with vitrine-enter instead of libcontainer, and leaves it
// waiting at the same fifo, with the same state on disk. On an error nothing is left but
// the cgroup, and libcontainer makes the container as ever, or says why it cannot:
// docs/decisions/0115.
func (j *job) bear(container *libcontainer.Container, process *specs.Process, facts enter.Facts, unknown error) (pid int, err error) {
	if unknown != nil {
		return 0, unusual("exec sessions need it, too")
	}
	if umask() != 0o022 {
		return 0, unusual("a launcher with a umask")
	}
	config := container.Config()
	state, err := container.State()
	if err != nil {
		return 0, err
	}
	group, err := manager.NewWithPaths(config.Cgroups, state.CgroupPaths)
	if err != nil {
		return 0, err
	}
	// A scope is made around a process, which waits for it.
	b := &birth{job: j, state: state, group: group, config: &config, wait: config.Cgroups.Systemd}
	made := b.makeCgroup()
	plan, err := b.plan(process, facts)
	if e := <-made; err == nil && e != nil {
		err = fmt.Errorf("make cgroup: %w", e)
	}
	if err != nil {
		return 0, err
	}
	j.line.end("birth.plan")
	if err := b.run(plan); err != nil {
		j.line.end("birth.declined")
		return 0, errors.Join(err, b.undo())
	}
	return b.pid, nil
}

// makeCgroup makes the directories and makes them ready for processes, beside the plan; the init
// comes by itself. Libcontainer finds them made if it has to take over.
func (b *birth) makeCgroup() <-chan error {
	made := make(chan error, 1)
	if b.wait {
		made <- nil
		return made
	}
	go func() { made <- b.group.Apply(-1) }() // bear receives it
	return made
}

// plan compiles what vitrine-enter is to do.
func (b *birth) plan(process *specs.Process, facts enter.Facts) ([]byte, error) {
	var filter enter.Filter
	var err error
	if facts.Filter != "" {
		if filter, err = enter.ReadFilter(facts.Filter); errors.Is(err, os.ErrNotExist) {
			return nil, errNoFilter
		} else if err != nil {
			return nil, err
		}
	}
	plan, err := ordinary(b.config, b.state.CgroupPaths, facts)
	if err != nil {
		return nil, err
	}
	if b.job.bare && bareSuits(&plan) {
		plan.Bare = b.job.request.Bare
	}
	if plan.Wait = b.wait; plan.Wait {
		plan.Cgroups, plan.Unified = nil, ""
	}
	return enter.NewInit(plan, filter, process)
}

func umask() int {
	mask := syscall.Umask(0o022)
	syscall.Umask(mask)
	return mask
}

// A birth is one run of vitrine-enter.
type birth struct {
	job    *job
	state  *libcontainer.State
	group  cgroups.Manager
	config *configs.Config
	wait   bool

	parent, pid int // vitrine-enter and the init; 0 for none
	fifo        string
}

// run starts the init and returns when it waits for its start.
func (b *birth) run(plan []byte) error {
	answers, gate, err := b.spawn(plan)
	if err != nil {
		return err
	}
	defer answers.Close()
	defer gate.Close()
	mounted, ready := false, false
	lines := bufio.NewScanner(answers)
	for !ready || b.pid == 0 {
		if !lines.Scan() {
			return fmt.Errorf("vitrine-enter ended without an answer: %w", errors.Join(lines.Err(), enter.ErrNeedsLibcontainer))
		}
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "error":
			return errors.New(rest)
		case "step":
			if err := b.step(rest); err != nil {
				return err
			}
		case "pid":
			if b.pid, err = strconv.Atoi(rest); err != nil || b.pid <= 1 {
				b.pid = 0
				return fmt.Errorf("vitrine-enter names process %q", rest)
			}
			if b.wait {
				if err := b.group.Apply(b.pid); err != nil {
					return fmt.Errorf("make cgroup: %w", err)
				}
				if _, err := gate.Write([]byte{1}); err != nil {
					return fmt.Errorf("let the init go on: %w", err)
				}
			}
		case "mounted":
			mounted = true
		case "ready":
			ready = true
		}
		if mounted && b.pid != 0 {
			mounted = false
			// As libcontainer does it here: what mounts and devices need is done.
			if err := b.group.Set(b.config.Cgroups.Resources); err != nil {
				return b.reason(lines, fmt.Errorf("limit cgroup: %w", err))
			}
			if err := b.record(); err != nil {
				return b.reason(lines, fmt.Errorf("write state: %w", err))
			}
		}
	}
	if _, err := gate.Write([]byte{1}); err != nil {
		return fmt.Errorf("let the init go to its fifo: %w", err)
	}
	_, err = wait(b.parent)
	b.parent = 0
	b.job.line.end("birth.ready")
	return err
}

// reason is why an init ended of whose end err tells: what it said itself, if it did.
func (b *birth) reason(lines *bufio.Scanner, err error) error {
	for _, pid := range []int{b.parent, b.pid} {
		if pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // undo waits for them
		}
	}
	for lines.Scan() {
		if said, ok := strings.CutPrefix(lines.Text(), "error "); ok {
			return errors.New(said)
		}
	}
	return err
}

// step is "NAME FROM TO".
func (b *birth) step(text string) error {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return fmt.Errorf("vitrine-enter names a step %q", text)
	}
	at, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return fmt.Errorf("vitrine-enter names a step %q", text)
	}
	b.job.line.endAt(fields[0], at)
	return nil
}

// spawn starts vitrine-enter with the plan and returns what it says and what lets it go on.
func (b *birth) spawn(plan []byte) (answers, gate *os.File, err error) {
	program, err := enter.Seal(b.job.request.Enterer)
	if err != nil {
		return nil, nil, err
	}
	defer program.Close()
	memory, err := enter.Memory("birth-plan", plan)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(memory)
	fifo := launch.ExecFifo(b.job.request.Root, b.job.request.ID)
	if err := unix.Mkfifo(fifo, 0o622); err != nil {
		return nil, nil, fmt.Errorf("make exec fifo: %w", err)
	}
	b.fifo = fifo
	if err := os.Chmod(fifo, 0o622); err != nil { // whatever the umask; the user opens it
		return nil, nil, err
	}
	name, err := os.OpenFile(fifo, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open exec fifo: %w", err)
	}
	defer name.Close()
	var theirs [2]*os.File
	if answers, theirs[0], err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	defer theirs[0].Close()
	if theirs[1], gate, err = os.Pipe(); err != nil {
		answers.Close()
		return nil, nil, err
	}
	defer theirs[1].Close()
	exec := ^uintptr(0)
	if givenPipe(launch.ExecFD) {
		exec = launch.ExecFD
	}
	// The launcher's own file: in the child, another may have taken its number by then.
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.Fd())
	b.parent, err = syscall.ForkExec(path, []string{"vitrine-enter"}, &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2, theirs[0].Fd(), theirs[1].Fd(), exec, name.Fd(), uintptr(memory)},
	})
	if err != nil {
		b.parent = 0
		answers.Close()
		gate.Close()
		return nil, nil, fmt.Errorf("run vitrine-enter: %w", err)
	}
	return answers, gate, nil
}

// record writes libcontainer's state of the container, as that would have written it.
func (b *birth) record() error {
	stat, err := system.Stat(b.pid)
	if err != nil {
		return err
	}
	s := b.state
	s.InitProcessPid, s.InitProcessStartTime, s.Created = b.pid, stat.StartTime, time.Now().UTC()
	s.ExternalDescriptors = make([]string, 3)
	for i := range s.ExternalDescriptors { // for checkpoints
		if s.ExternalDescriptors[i], err = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", b.pid, i)); err != nil {
			return err
		}
	}
	s.NamespacePaths = map[configs.NamespaceType]string{}
	for _, kind := range configs.NamespaceTypes() {
		if configs.IsNamespaceSupported(kind) {
			s.NamespacePaths[kind] = (&configs.Namespace{Type: kind}).GetPath(b.pid)
		}
	}
	for _, ns := range b.config.Namespaces {
		s.NamespacePaths[ns.Type] = ns.GetPath(b.pid)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.job.request.Root, b.job.request.ID)
	if err := os.WriteFile(filepath.Join(dir, "state-new"), raw, 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "state-new"), filepath.Join(dir, "state.json"))
}

// undo ends what was started and waits for it, so that libcontainer finds the container's
// directory and cgroup as it expects them.
func (b *birth) undo() (err error) {
	for _, pid := range []int{b.parent, b.pid} {
		if pid == 0 {
			continue
		}
		_ = unix.Kill(pid, unix.SIGKILL)
		if _, e := wait(pid); e != nil {
			err = errors.Join(err, fmt.Errorf("wait for %d: %w", pid, e))
		}
	}
	// An init of whose birth its parent died before it could tell ends by itself.
	for {
		if pid, e := unix.Wait4(-1, nil, unix.WALL, nil); e == unix.EINTR {
			continue
		} else if e != nil || pid <= 0 {
			break
		}
	}
	for _, name := range []string{b.fifo, filepath.Join(filepath.Dir(b.fifo), "state.json"), filepath.Join(filepath.Dir(b.fifo), "state-new")} {
		if b.fifo != "" {
			if e := os.Remove(name); e != nil && !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// wait waits for a child.
func wait(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status, err
		}
	}
}
