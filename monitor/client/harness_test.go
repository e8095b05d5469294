package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// The binaries under test, and the root file system that all containers share.
var monitorPath, launchPath, rootfs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vitrine-monitor")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		monitorPath, launchPath, rootfs = dir+"/vitrine-monitor", dir+"/vitrine-launch", dir+"/rootfs"
		for _, b := range []struct {
			cgo  string
			args []string
		}{
			{"0", []string{"-ldflags", "-s -w", "-o", monitorPath, "../../cmd/vitrine-monitor"}},
			{"1", []string{"-tags", "seccomp,netgo,osusergo", "-ldflags", `-s -w -linkmode external -extldflags "-static -Wl,--no-warnings"`, "-o", launchPath, "../../cmd/vitrine-launch"}},
		} {
			build := exec.Command("go", append([]string{"build", "-trimpath"}, b.args...)...)
			build.Env = append(os.Environ(), "CGO_ENABLED="+b.cgo, "GOEXPERIMENT=nogreenteagc") // as the Makefile does
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
				return 1
			}
		}
		if f, err := os.Open(monitorPath); err == nil {
			f.Sync() // fresh pages of the file would count as the monitor's memory
			f.Close()
		}
		makeRootfs(rootfs)
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

// makeRootfs fills a directory with busybox and files that cannot be executed.
func makeRootfs(dir string) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "etc"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	raw, err := os.ReadFile("/bin/busybox")
	must(err) // Debian's busybox-static
	must(os.WriteFile(dir+"/bin/busybox", raw, 0o755))
	for _, name := range strings.Fields("sh cat ls sleep echo true false printf seq yes head setsid kill ps stty tty dd readlink test nohup wc tr") {
		must(os.Symlink("busybox", dir+"/bin/"+name))
	}
	must(os.WriteFile(dir+"/bin/garbage", []byte("\x7fELF this is no program\n"), 0o755))
	must(os.WriteFile(dir+"/bin/orphan", []byte("#!/no/such/interpreter\n"), 0o755))
	must(os.WriteFile(dir+"/bin/plain", []byte("text\n"), 0o644))
}

// box is one container with all that belongs to it.
type box struct {
	testing.TB
	ctx   context.Context
	dir   string // the monitor's directory and bundle
	logs  string
	spec  *specs.Spec
	spawn client.Spawn
	m     *client.Monitor
	made  client.Created
}

var boxes atomic.Int64

// newBox describes a container that runs busybox with args; change spec and spawn
// before create.
func newBox(t testing.TB, args ...string) *box {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	dir := t.TempDir()
	id := fmt.Sprintf("m%d-%d", os.Getpid(), boxes.Add(1))
	b := &box{TB: t, ctx: ctx, dir: dir + "/container", logs: dir + "/logs"}
	for _, d := range []string{b.dir, b.logs, dir + "/runtime"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.spec = &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: rootfs, Readonly: true},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/vitrine-monitor-test/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.MountNamespace}},
			Resources:   &specs.LinuxResources{},
		},
	}
	b.spawn = client.Spawn{
		Dir: b.dir, ID: id, MonitorPath: monitorPath, LaunchPath: launchPath,
		Request: b.dir + "/launch.json", ExecFifo: launch.ExecFifo(dir+"/runtime", id), DeleteRequest: b.dir + "/delete.json",
		LogPath: b.logs + "/0.log",
	}
	b.request("launch.json", launch.OpCreate, dir+"/runtime")
	b.request("delete.json", launch.OpDelete, dir+"/runtime")
	t.Cleanup(b.clean)
	return b
}

func (b *box) request(name string, op launch.Op, root string) {
	raw, err := json.Marshal(launch.Request{Op: op, ID: b.spawn.ID, Bundle: b.dir, Root: root})
	b.must(err)
	b.must(os.WriteFile(b.dir+"/"+name, raw, 0o600))
}

func (b *box) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if b.m != nil {
		if err := b.m.Destroy(ctx); err != nil {
			b.Errorf("destroy: %v", err)
		}
	}
	for _, root := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
		left, _ := filepath.Glob(root + "/vitrine-monitor-test/" + b.spawn.ID)
		for _, dir := range left {
			if b.m != nil {
				b.Errorf("cgroup left behind: %s", dir)
			}
			os.Remove(dir)
		}
		parents, _ := filepath.Glob(root + "/vitrine-monitor-test")
		for _, dir := range parents {
			os.Remove(dir)
		}
	}
	if b.Failed() {
		raw, _ := os.ReadFile(b.dir + "/monitor.log")
		b.Logf("monitor.log: %s", raw)
	}
}

// tryCreate starts the monitor and has it create the container.
func (b *box) tryCreate() error {
	b.Helper()
	raw, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(b.dir+"/config.json", raw, 0o600))
	b.spec.Process.Terminal = b.spawn.Terminal
	b.m, b.made, err = client.Start(b.ctx, b.spawn)
	return err
}

func (b *box) create() *box {
	b.Helper()
	b.must(b.tryCreate())
	return b
}

// start creates and starts the container.
func (b *box) start() *box {
	b.Helper()
	b.create()
	b.must(b.m.StartContainer(b.ctx))
	return b
}

// exit waits for the end of the container.
func (b *box) exit() wire.Exit {
	b.Helper()
	select {
	case <-b.m.Exited():
	case <-b.m.Lost():
		b.Fatal("the monitor was lost")
	case <-b.ctx.Done():
		b.Fatal("no exit")
	}
	e, err := client.ReadExit(b.dir)
	b.must(err)
	if told, ok := b.m.Exit(); !ok || told != e {
		b.Errorf("told %+v, on disk is %+v", told, e)
	}
	return e
}

// log is the content of the log, stream by stream.
func (b *box) log() (stdout, stderr string) {
	b.Helper()
	raw, err := os.ReadFile(b.spawn.LogPath)
	b.must(err)
	streams := content(b, raw)
	return streams["stdout"], streams["stderr"]
}

func content(t testing.TB, raw []byte) map[string]string {
	t.Helper()
	streams := map[string]*strings.Builder{"stdout": {}, "stderr": {}}
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(line, " ", 4)
		if len(f) != 4 || !strings.HasSuffix(f[3], "\n") || streams[f[1]] == nil {
			t.Fatalf("not a record: %q", line)
		}
		if f[2] == "P" {
			f[3] = strings.TrimSuffix(f[3], "\n")
		}
		streams[f[1]].WriteString(f[3])
	}
	return map[string]string{"stdout": streams["stdout"].String(), "stderr": streams["stderr"].String()}
}

// eventually waits for what comes soon.
func (b *box) eventually(what string, ok func() bool) {
	b.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.Fatalf("did not happen: %s", what)
}

func (b *box) process(args ...string) []byte {
	raw, err := json.Marshal(specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}})
	b.must(err)
	return raw
}

// exec runs a command in the container to its end.
func (b *box) exec(args ...string) (stdout, stderr string, code int32) {
	b.Helper()
	s, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.process(args...), Stdout: true, Stderr: true})
	b.must(err)
	defer s.Close()
	out := readAll(s.Stdout())
	errs := readAll(s.Stderr())
	code, err = s.Wait(b.ctx)
	b.must(err)
	return <-out, <-errs, code
}

func readAll(r io.Reader) chan string {
	c := make(chan string, 1)
	go func() {
		raw, err := io.ReadAll(r)
		if err != nil {
			raw = append(raw, " error: "+err.Error()...)
		}
		c <- string(raw)
	}()
	return c
}

// alive reports whether pid is a process that has not ended.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return rest[0] != 'Z' && rest[0] != 'X'
}
