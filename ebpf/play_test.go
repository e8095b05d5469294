package ebpf_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// The first thread stays that of the part listen: it listens with the counters of its
// execve, however often a slow machine preempts it.
func init() {
	if os.Getenv("PLAY") == "listen" {
		runtime.LockOSThread()
	}
}

// The test binary plays the processes of a container: PLAY names the part, PLAY_CGROUP
// the cgroup it enters before it becomes what it plays.
func TestMain(m *testing.M) {
	part := os.Getenv("PLAY")
	if part == "" {
		os.Exit(m.Run())
	}
	if dir := os.Getenv("PLAY_CGROUP"); dir != "" {
		check(os.WriteFile(dir+"/cgroup.procs", []byte("0"), 0))
		os.Unsetenv("PLAY_CGROUP")
		check(unix.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	play(strings.Fields(part))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

func play(part []string) {
	number := func() int {
		n, err := strconv.Atoi(part[1])
		check(err)
		return n
	}
	switch part[0] {
	case "sleep":
		unix.Pause()
	case "exit":
		os.Exit(number())
	case "hold", "hog":
		mem, err := unix.Mmap(-1, 0, number()<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		check(err)
		for i := 0; i < len(mem); i += 4096 {
			mem[i] = 1
		}
		fmt.Println("ready")
		unix.Pause()
	case "brim": // so much, and as much again once told to
		mem, err := unix.Mmap(-1, 0, 2*number()<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		check(err)
		for i := 0; i < len(mem); i += 4096 {
			if i == len(mem)/2 {
				fmt.Println("ready")
				os.Stdin.Read(make([]byte, 1))
			}
			mem[i] = 1
		}
	case "file": // so much of a file, which stays in the cache or, in a tmpfs, in memory
		f, err := os.OpenFile(part[2], os.O_CREATE|os.O_WRONLY, 0o600)
		check(err)
		for range number() {
			_, err := f.Write(make([]byte, 1<<20))
			check(err)
		}
		fmt.Println("ready")
		unix.Pause()
	case "parent": // of a child that plays the rest
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), "PLAY="+strings.Join(part[1:], " "))
		child.Run()
		os.Exit(7)
	case "orphan": // of a parent that ends at once: the rest is played by the child
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), "PLAY=bereft "+strings.Join(part[1:], " "), fmt.Sprint("PLAY_PARENT=", os.Getpid()))
		check(child.Start())
		os.Exit(0)
	case "bereft":
		for os.Getenv("PLAY_PARENT") == strconv.Itoa(os.Getppid()) {
			time.Sleep(time.Millisecond)
		}
		play(part[1:])
	case "kill":
		check(unix.Kill(number(), unix.SIGKILL))
	case "abort":
		defaultAction(unix.SIGABRT)
		check(unix.Kill(os.Getpid(), unix.SIGABRT))
		unix.Pause()
	case "fault":
		mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
		check(err)
		defaultAction(unix.SIGSEGV)
		mem[0] = 1
	case "listen": // once told to, answer one connection, then wait for the end of input
		in := make([]byte, 1)
		os.Stdin.Read(in)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
		c, err := l.Accept()
		check(err)
		c.Close()
		os.Stdin.Read(in)
	case "hostile":
		playHostile()
	case "watched":
		playWatched(part[1])
	case "spin":
		playSpin()
	case "work":
		playWork()
	case "denied":
		playDenied(part[1])
	case "open":
		dropped()
	}
	os.Exit(0)
}

// defaultAction undoes what Go's runtime did with the signal.
func defaultAction(sig unix.Signal) {
	var none [4]uint64
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptrOf(&none), 0, 8, 0, 0)
	if errno != 0 {
		check(errno)
	}
}

// start starts a part in the cgroup of that directory.
func start(t *testing.T, dir, part string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PLAY="+part, "PLAY_CGROUP="+dir, "GOTRACEBACK=none")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

// startInit starts a part as the cgroup's PID 1, which is known before its execve.
func startInit(t *testing.T, p *ebpf.Programs, dir string, id uint64, part string, env ...string) (*exec.Cmd, io.WriteCloser, io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `read go; echo $$ >"$0/cgroup.procs"; exec "$1"`, dir, self)
	cmd.Env = append(append(os.Environ(), "PLAY="+part), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	setInit(t, p, id, cmd.Process.Pid)
	fmt.Fprintln(in, "go")
	return cmd, in, out
}

func wait(t *testing.T, cmd *exec.Cmd) syscall.WaitStatus {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// newCgroup makes a memory cgroup below parent ("" is the root), with a limit if not 0.
func newCgroup(t *testing.T, parent, name string, limit int) (dir string, id uint64) {
	t.Helper()
	root, limitFile := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat(root + "/memory/memory.limit_in_bytes"); err == nil {
		root, limitFile = root+"/memory", "memory.limit_in_bytes"
	}
	if parent == "" {
		parent = root
		name = fmt.Sprintf("vitrine-ebpf-%d-%s", os.Getpid(), name)
	} else if limitFile == "memory.max" {
		if err := os.WriteFile(parent+"/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 200 {
			if err := os.Remove(dir); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left", dir)
	})
	if limit != 0 {
		if err := os.WriteFile(filepath.Join(dir, limitFile), []byte(strconv.Itoa(limit)), 0); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return dir, st.Ino
}

// kernelKills is the kernel's own count of the OOM kills in exactly that cgroup.
func kernelKills(t *testing.T, dir string) (n uint64) {
	t.Helper()
	text, err := os.ReadFile(dir + "/memory.oom_control")
	if err != nil {
		text, err = os.ReadFile(dir + "/memory.events.local")
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "oom_kill %d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no oom_kill in %q", text)
	return 0
}

// needsUnified ends a test that wants a file of cgroup v2 and got err.
func needsUnified(t testing.TB, err error) {
	t.Helper()
	if _, v1 := os.Stat("/sys/fs/cgroup/cgroup.controllers"); v1 == nil {
		t.Fatal(err)
	}
	t.Skip("needs memory.oom.group, which is of cgroup v2: ", err)
}
