package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
)

// enterer builds vitrine-enter and opens it.
func enterer(t testing.TB) *client.Enterer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vitrine-enter")
	if out, err := exec.Command("../../cmd/vitrine-enter/build", path).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	e, err := client.OpenEnterer(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// bare is a process that vitrine-enter can start.
func (b *box) bare(args ...string) []byte {
	raw, err := json.Marshal(specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, Capabilities: &specs.LinuxCapabilities{}})
	b.must(err)
	return raw
}

// ownLauncher gives the box a launcher that can be taken away.
func (b *box) ownLauncher() *box {
	b.Helper()
	b.spawn.LaunchPath = filepath.Join(b.TempDir(), "vitrine-launch")
	b.must(os.Link(launchPath, b.spawn.LaunchPath))
	return b
}

func (b *box) enter(e *client.Enterer, args ...string) (stdout, stderr string, code int32, err error) {
	b.Helper()
	s, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.bare(args...), Stdout: true, Stderr: true, Enterer: e})
	if err != nil {
		return "", "", 0, err
	}
	defer s.Close()
	out, errs := readAll(s.Stdout()), readAll(s.Stderr())
	code, err = s.Wait(b.ctx)
	return <-out, <-errs, code, err
}

func TestExecNeedsNoLauncher(t *testing.T) {
	b := newBox(t, "sleep", "1000").ownLauncher().start()
	e := enterer(t)
	away := b.spawn.LaunchPath + ".away"
	b.must(os.Rename(b.spawn.LaunchPath, away))
	defer func() { b.must(os.Rename(away, b.spawn.LaunchPath)) }()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 10 {
				out, errs, code, err := b.enter(e, "sh", "-c", fmt.Sprintf("echo out; echo err >&2; exit %d", i))
				if out != "out\n" || errs != "err\n" || code != int32(i) || err != nil {
					t.Errorf("got %q, %q, %d, %v", out, errs, code, err)
				}
			}
		})
	}
	all.Wait()
	c, err := b.m.Stats(b.ctx)
	b.must(err)
	if c.Execs != 80 || c.ExecFailed != 0 || c.ExecStartNanos == 0 || c.ExecCPUNanos == 0 {
		t.Errorf("the monitor counted %+v", c)
	}
	if _, _, _, err := b.enter(nil, "true"); err == nil {
		t.Error("the launcher was there")
	}
}

func TestExecThatIsDeclinedIsTheLaunchers(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	e := enterer(t)
	for command, want := range map[string]launch.Kind{"nosuch": launch.KindNotFound, "orphan": launch.KindNotFound, "/bin/plain": launch.KindNotExecutable, "garbage": launch.KindNotExecutable} {
		for range 4 {
			_, _, _, err := b.enter(e, command)
			var failed *launch.Error
			if !errors.As(err, &failed) || failed.Kind != want || strings.HasPrefix(failed.Step, "enter.") {
				t.Errorf("%s: got %v", command, err)
			}
		}
	}
	if out, _, code, err := b.enter(e, "echo", "good"); out != "good\n" || code != 0 || err != nil {
		t.Errorf("got %q, %d, %v", out, code, err)
	}
	c, err := b.m.Stats(b.ctx)
	b.must(err)
	if c.Execs != 17 || c.ExecFailed != 16 {
		t.Errorf("the monitor counted %+v", c)
	}
}

// Facts that have become wrong cost time and nothing else.
func TestExecWithWrongFactsIsTheLaunchers(t *testing.T) {
	for name, facts := range map[string]string{
		"none":            "",
		"torn":            `{"cgroups":["/sys`,
		"no such cgroup":  `{"unified":"/nonexistent"}`,
		"no such filter":  `{"filter":"/nonexistent"}`,
		"other namespace": `{"namespaces":[{"flag":131072,"path":"/proc/self/ns/mnt"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "sleep", "1000").start()
			path := filepath.Join(b.dir, "enter.json")
			b.must(os.Remove(path))
			if facts != "" {
				b.must(os.WriteFile(path, []byte(facts), 0o600))
			}
			e := enterer(t)
			for range 5 {
				if out, _, _, err := b.enter(e, "echo", "good"); out != "good\n" || err != nil {
					t.Errorf("got %q, %v", out, err)
				}
			}
		})
	}
}

func TestEnteredSessionsEndAsOthersDo(t *testing.T) {
	b := newBox(t, "sleep", "1000").ownLauncher().start()
	e := enterer(t)
	away := b.spawn.LaunchPath + ".away"
	b.must(os.Rename(b.spawn.LaunchPath, away))
	s, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.bare("sh", "-c", "sleep 4321 & echo up; wait"), Stdout: true, Enterer: e})
	b.must(err)
	if n, err := s.Stdout().Read(make([]byte, 8)); n != 3 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	b.must(s.Kill(b.ctx))
	if code, err := s.Wait(b.ctx); code != 137 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
	s.Close()
	out, _, _, err := b.enter(e, "sh", "-c", "cat /proc/[0-9]*/cmdline")
	if strings.Contains(out, "4321") || err != nil {
		t.Errorf("left behind: %q, %v", out, err)
	}
	b.must(os.Rename(away, b.spawn.LaunchPath))

	// Whoever gives up while it starts leaves no process either.
	for delay := range 8 {
		ctx, cancel := context.WithTimeout(b.ctx, time.Duration(delay)*300*time.Microsecond)
		if s, err := b.m.Exec(ctx, client.ExecOptions{Process: b.bare("sleep", "3000"), Stdout: true, Enterer: e}); err == nil {
			b.must(s.Kill(b.ctx))
			s.Close()
		}
		cancel()
	}
	b.eventually("the end of all sessions", func() bool {
		out, _, _, err := b.enter(e, "sh", "-c", "cat /proc/[0-9]*/cmdline")
		return err == nil && !strings.Contains(out, "3000")
	})
	c, err := b.m.Stats(b.ctx)
	b.must(err)
	if fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.m.MonitorPID())); len(fds) > 24 {
		t.Errorf("the monitor has %d descriptors open after %d sessions", len(fds), c.Execs)
	}
}

// The program cannot be written to by whoever finds it open.
func TestEntererIsSealed(t *testing.T) {
	e := enterer(t)
	links, _ := filepath.Glob("/proc/self/fd/*")
	found := false
	for _, l := range links {
		if to, _ := os.Readlink(l); !strings.Contains(to, "memfd:vitrine-enter") {
			continue
		}
		found = true
		if f, err := os.OpenFile(l, os.O_WRONLY, 0); err == nil {
			if _, err := f.WriteAt([]byte("x"), 0); err == nil {
				t.Error("it was written to")
			}
			if err := f.Truncate(0); err == nil {
				t.Error("it was cut off")
			}
			f.Close()
		}
	}
	if !found {
		t.Error("it is not in memory")
	}
	e.Close()
}
