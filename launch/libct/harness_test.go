package libct_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// launcher is the binary under test.
var launcher string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if bin := os.Getenv("VITRINE_BIN"); bin != "" { // built before, for a machine without a compiler
			launcher = filepath.Join(bin, "vitrine-launch")
		} else {
			dir, err := os.MkdirTemp("", "vitrine-launch")
			if err != nil {
				panic(err)
			}
			defer os.RemoveAll(dir)
			launcher = filepath.Join(dir, "vitrine-launch")
			build := exec.Command("go", "build", "-tags", "seccomp", "-ldflags", "-s -w -linkmode external -extldflags -static",
				"-o", launcher, "../../cmd/vitrine-launch")
			build.Env = append(os.Environ(), "CGO_ENABLED=1")
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
				return 1
			}
		}
		// The tests are the monitor: what the launcher leaves becomes their child.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// A box is one container with all that belongs to it.
type box struct {
	testing.TB
	id, root, bundle, rootfs string
	parent                   string // cgroup parent
	runtime                  launch.Runtime
	cache, filters           string
	enter                    string // the path of vitrine-enter; empty leaves creations to libcontainer
	bare                     string // the request's
	spec                     *specs.Spec

	pid    int
	stdout *output
	exec   *os.File // read end of ExecFD
	reply  launch.Reply

	spawned, answered time.Time // of the last run
}

// output is what came out of a pipe.
type output struct {
	done chan struct{}
	text bytes.Buffer
}

func (o *output) String() string { <-o.done; return o.text.String() }

// newBox makes a bundle whose process is busybox with args.
func newBox(t testing.TB, args ...string) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces, mounts, cgroups")
	}
	dir := t.TempDir()
	b := &box{
		TB: t, id: fmt.Sprintf("t%d-%d", os.Getpid(), time.Now().UnixNano()%1e9),
		root: filepath.Join(dir, "state"), bundle: filepath.Join(dir, "bundle"), rootfs: filepath.Join(dir, "rootfs"),
	}
	b.parent = "/vitrine-launch-" + b.id
	b.must(os.MkdirAll(b.bundle, 0o700))
	makeRootfs(t, b.rootfs)
	b.spec = baseSpec(b.rootfs, b.parent+"/"+b.id, args)
	t.Cleanup(b.clean)
	return b
}

// makeRootfs fills a directory with busybox.
func makeRootfs(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("the tests need Debian's busybox-static: ", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), raw, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "ls", "id", "true", "sleep", "mkdir", "hostname", "grep", "readlink", "tty", "kill", "ip", "dd", "stty", "mount", "chroot", "echo", "env", "pwd", "sed", "head", "tail"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
		"etc/group":  "root:x:0:\nuser:x:1000:\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// defaultCaps are the capabilities of an ordinary container.
var defaultCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_KILL"}

// baseSpec is an ordinary container with all namespaces of its own but the user's.
func baseSpec(rootfs, cgroup string, args []string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: rootfs},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: defaultCaps, Effective: defaultCaps, Permitted: defaultCaps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1000, Hard: 2000}},
		},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: ptr(int64(128 << 20))},
				CPU:     &specs.LinuxCPU{Shares: ptr(uint64(512))},
				Pids:    &specs.LinuxPids{Limit: ptr(int64(100))},
			},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

func ptr[T any](v T) *T { return &v }

func (b *box) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// run runs the launcher. Stdio are the process's streams, nil for /dev/null; extra are
// the descriptors from ConsoleFD on.
func (b *box) run(r launch.Request, stdin, stdout, stderr *os.File, extra ...*os.File) launch.Reply {
	b.Helper()
	r.ID, r.Root, r.Bundle, r.Runtime, r.SeccompCache, r.Filters, r.Enterer, r.Bare = b.id, b.root, b.bundle, b.runtime, b.cache, b.filters, b.enter, b.bare
	raw, err := json.Marshal(r)
	b.must(err)
	path := filepath.Join(b.bundle, "launch.json")
	b.must(os.WriteFile(path, raw, 0o600))
	mine, its, err := os.Pipe()
	b.must(err)
	defer mine.Close()
	files := []*os.File{stdin, stdout, stderr, its}
	for i, f := range files[:3] {
		if f == nil {
			f, err = os.OpenFile("/dev/null", os.O_RDWR, 0)
			b.must(err)
			defer f.Close()
			files[i] = f
		}
	}
	var fds []uintptr
	for _, f := range append(files, extra...) {
		if f == nil {
			fds = append(fds, ^uintptr(0))
		} else {
			fds = append(fds, f.Fd())
		}
	}
	b.spawned = time.Now()
	pid, err := syscall.ForkExec(launcher, []string{"vitrine-launch", path}, &syscall.ProcAttr{
		Env: append(launch.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin"), Files: fds,
	})
	b.must(err)
	its.Close()
	text, err := io.ReadAll(mine)
	b.must(err)
	b.answered = time.Now()
	var status syscall.WaitStatus
	_, err = syscall.Wait4(pid, &status, 0, nil)
	b.must(err)
	reply, err := launch.ParseReply(string(text))
	if err != nil {
		b.Fatalf("%s: %v: %q (status %v)", r.Op, err, text, status)
	}
	return reply
}

// pipe returns the write end of a pipe that is read until its end in the background.
func (b *box) pipe() (*os.File, *output) {
	b.Helper()
	r, w, err := os.Pipe()
	b.must(err)
	o := &output{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		defer r.Close()
		_, _ = io.Copy(&o.text, r)
	}()
	return w, o
}

// tryCreate runs OpCreate with both output streams in b.stdout.
func (b *box) tryCreate() *launch.Error {
	b.Helper()
	b.writeSpec()
	w, out := b.pipe()
	b.stdout = out
	status, ours, err := os.Pipe()
	b.must(err)
	b.reply = b.run(launch.Request{Op: launch.OpCreate}, nil, w, w, nil, ours)
	w.Close()
	ours.Close()
	b.exec, b.pid = status, b.reply.PID
	return b.reply.Error
}

func (b *box) writeSpec() {
	b.Helper()
	raw, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.bundle, "config.json"), raw, 0o600))
}

func (b *box) create() {
	b.Helper()
	if e := b.tryCreate(); e != nil {
		b.Fatalf("create: %s %s: %s", e.Kind, e.Step, e.Message)
	}
}

// tryStart lets the init go as ExecFifo describes.
func (b *box) tryStart() *launch.Error {
	b.Helper()
	fifo := launch.ExecFifo(b.root, b.id)
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	b.must(err)
	defer unix.Close(fd)
	polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(b.exec.Fd()), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(polled, 10000); err == unix.EINTR {
			continue
		} else if err != nil || n == 0 {
			b.Fatalf("the init does not come to its fifo: %v", err)
		}
		break
	}
	var one [1]byte
	if n, err := unix.Read(fd, one[:]); n != 1 {
		b.Fatalf("read exec fifo: %d, %v", n, err)
	}
	b.must(os.Remove(fifo))
	text, err := io.ReadAll(b.exec)
	b.must(err)
	return launch.ExecError(string(text))
}

func (b *box) start() {
	b.Helper()
	if e := b.tryStart(); e != nil {
		b.Fatalf("start: %s: %s", e.Kind, e.Message)
	}
}

// wait reaps a process and returns how it ended.
func (b *box) wait(pid int) syscall.WaitStatus {
	b.Helper()
	var status syscall.WaitStatus
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		if err != nil && err != syscall.EINTR {
			b.Fatalf("wait for %d: it is no child: %v", pid, err)
		}
		if n == pid {
			return status
		}
		if time.Now().After(deadline) {
			b.Fatalf("process %d does not end", pid)
		}
	}
}

// runAll creates and starts the container and returns its output and exit code.
func (b *box) runAll() (string, int) {
	b.Helper()
	b.create()
	b.start()
	status := b.wait(b.pid)
	return b.stdout.String(), status.ExitStatus()
}

// tryExec starts a process in the container.
func (b *box) tryExec(p specs.Process) (pid int, out *output, failed *launch.Error) {
	b.Helper()
	raw, err := json.Marshal(p)
	b.must(err)
	w, out := b.pipe()
	reply := b.run(launch.Request{Op: launch.OpExec, Process: raw}, nil, w, w)
	w.Close()
	return reply.PID, out, reply.Error
}

// process is the container's process with other arguments.
func (b *box) process(args ...string) specs.Process {
	p := *b.spec.Process
	p.Args = args
	return p
}

func (b *box) remove() {
	b.Helper()
	if reply := b.run(launch.Request{Op: launch.OpDelete}, nil, nil, nil); reply.Error != nil {
		b.Errorf("delete: %s: %s", reply.Error.Step, reply.Error.Message)
	}
}

// clean removes the container and fails the test if anything of it is left.
func (b *box) clean() {
	if b.pid != 0 {
		_ = syscall.Kill(b.pid, syscall.SIGKILL)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // an init that was killed ends when the exec sessions in its pid namespace are reaped
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				b.reapContained()
			}
		}
	}()
	b.remove()
	close(stop)
	<-done
	if b.exec != nil {
		b.exec.Close()
	}
	for _, left := range b.census() {
		b.Error("left behind: ", left)
	}
	for _, dir := range b.cgroups() {
		_ = os.Remove(dir)
	}
}

// reapContained reaps children that are in the container's cgroup.
func (b *box) reapContained() {
	for _, pid := range b.contained() {
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

// contained lists the processes whose cgroup is the container's, zombies included.
func (b *box) contained() (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, p := range procs {
		raw, _ := os.ReadFile(p)
		if strings.Contains(string(raw), b.parent+"/") {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// census lists what the container has left on the host.
func (b *box) census() (left []string) {
	if _, err := os.Lstat(filepath.Join(b.root, b.id)); !errors.Is(err, os.ErrNotExist) {
		left = append(left, "state "+b.id)
	}
	for _, dir := range b.cgroups() {
		if _, err := os.Lstat(filepath.Join(dir, b.id)); err == nil {
			left = append(left, "cgroup "+filepath.Join(dir, b.id))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, b.rootfs) || strings.Contains(line, b.root) {
			left = append(left, "mount "+line)
		}
	}
	b.reapContained() // what was reparented to the tests is theirs to reap
	for _, pid := range b.contained() {
		left = append(left, "process "+itoa(pid))
	}
	return left
}

// cgroups lists the test's cgroup parent in each hierarchy.
func (b *box) cgroups() []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + b.parent)
	if _, err := os.Stat("/sys/fs/cgroup" + b.parent); err == nil {
		dirs = append(dirs, "/sys/fs/cgroup"+b.parent)
	}
	return dirs
}

// cgroupFile reads a file of the container's cgroup; v1 names the controller.
func (b *box) cgroupFile(v1, file string) string {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", v1, b.parent, b.id, file))
	b.must(err)
	return strings.TrimSpace(string(raw))
}

func itoa(n int) string { return strconv.Itoa(n) }
