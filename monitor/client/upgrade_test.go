package client_test

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/client"
)

func TestUpgradesLoseNoLineAndNoExit(t *testing.T) {
	const upgrades, lines = 20, 200000
	b := newBox(t, "sh", "-c", "i=0; while [ $i -lt 20 ]; do seq $((i*10000+1)) $((i*10000+10000)); i=$((i+1)); done; exit 42").start()
	pid := b.m.MonitorPID()
	for i := range upgrades {
		b.must(b.m.Upgrade(b.ctx, monitorPath))
		if got := b.m.Upgrades(); got != uint64(i+1) {
			t.Errorf("upgrade %d is counted as %d", i+1, got)
		}
	}
	e := b.exit()
	if e.Code() != 42 || e.UserTime+e.SystemTime == 0 || e.LogLines != lines || b.m.MonitorPID() != pid {
		t.Errorf("exit %+v, monitor %d then %d", e, pid, b.m.MonitorPID())
	}
	out, _ := b.log()
	n := 0
	for line := range strings.Lines(out) {
		if n++; line != strconv.Itoa(n)+"\n" {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if n != lines {
		t.Errorf("%d lines, want %d", n, lines)
	}
}

func TestSessionsAndHalfLinesSurviveUpgrades(t *testing.T) {
	b := newBox(t, "sh", "-c", `printf half; read x; echo " line $x"; printf warn >&2; read y; echo " end $y" >&2; read z; exit 7`)
	b.spawn.Stdin = true
	b.start()
	attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
	b.must(err)
	execed, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.process("sh", "-c", "cat; exit 9"), Stdin: true, Stdout: true})
	b.must(err)
	upgrade := func() { b.Helper(); b.must(b.m.Upgrade(b.ctx, monitorPath)) }
	write := func(w io.Writer, text string) {
		b.Helper()
		_, err := io.WriteString(w, text)
		b.must(err)
	}
	upgrade()
	write(attached.Stdin(), "one\n")
	upgrade()
	upgrade()
	write(attached.Stdin(), "two\n")
	b.eventually("the whole line", func() bool { _, e := b.log(); return strings.HasSuffix(e, "two\n") })
	write(execed.Stdin(), "through the exec")
	upgrade()
	b.must(execed.Stdin().Close())
	text := <-readAll(execed.Stdout())
	if code, err := execed.Wait(b.ctx); code != 9 || err != nil || text != "through the exec" {
		t.Errorf("exec: %d, %v, %q", code, err, text)
	}
	if out, _, code := b.exec("echo", "a new one"); out != "a new one\n" || code != 0 {
		t.Errorf("exec after upgrades: %q, %d", out, code)
	}
	write(attached.Stdin(), "three\n")
	out, errs := readAll(attached.Stdout()), readAll(attached.Stderr())
	if code, err := attached.Wait(b.ctx); code != 7 || err != nil {
		t.Errorf("attach: %d, %v", code, err)
	}
	if o, e := <-out, <-errs; !strings.HasSuffix(o, " line one\n") || !strings.HasSuffix(e, " end two\n") {
		t.Errorf("attached saw %q and %q", o, e)
	}
	if e := b.exit(); e.Code() != 7 {
		t.Errorf("exit %+v", e)
	}
	if out, errs := b.log(); out != "half line one\n" || errs != "warn end two\n" {
		t.Errorf("log %q and %q", out, errs)
	}
}

func TestUpgradeBeforeTheStartAndWithATerminal(t *testing.T) {
	b := newBox(t, "sh", "-c", `echo ready; read x; echo "got $x"; exit 3`)
	b.spawn.Terminal, b.spawn.Stdin, b.spec.Process.Terminal = true, true, true
	b.create()
	b.must(b.m.Upgrade(b.ctx, monitorPath))
	b.must(b.m.StartContainer(b.ctx))
	attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true, Stdout: true})
	b.must(err)
	b.must(b.m.Upgrade(b.ctx, monitorPath))
	b.must(b.m.Resize(b.ctx, 100, 30))
	_, err = io.WriteString(attached.Stdin(), "it\n")
	b.must(err)
	if e := b.exit(); e.Code() != 3 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); !strings.Contains(out, "got it") {
		t.Errorf("log %q", out)
	}
	b.must(b.m.Upgrade(b.ctx, monitorPath)) // its exit is told; it waits to be shut down
	attached.Close()
}

func TestFailedUpgradeChangesNothing(t *testing.T) {
	b := newBox(t, "sh", "-c", "printf 'half '; read x; echo line; exit 5")
	b.spawn.Stdin = true
	b.start()
	dir := t.TempDir()
	bad := map[string]string{
		dir + "/missing": "no such file",
		"relative":       "not absolute",
		"/bin/true":      "did not pass its trial",
		dir:              "permission denied",
		dir + "/corrupt": "exec format error",
		dir + "/cut":     "",
		dir + "/shell":   "",
	}
	program, err := os.ReadFile(monitorPath)
	b.must(err)
	b.must(os.WriteFile(dir+"/corrupt", []byte("\x7fELF and nothing more\n"), 0o755))
	b.must(os.WriteFile(dir+"/cut", program[:len(program)/3], 0o755))
	b.must(os.WriteFile(dir+"/shell", []byte("#!/bin/sh\necho vitrine-monitor can resume somebody\n"), 0o755))
	before := strings.Join(fdsOf(b), "\n") // the launcher's may be among them, until it is reaped
	for path, want := range bad {
		err := b.m.Upgrade(b.ctx, path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	b.eventually("no descriptor more than before", func() bool {
		for _, fd := range fdsOf(b) {
			if !strings.Contains("\n"+before+"\n", "\n"+fd+"\n") {
				return false
			}
		}
		return true
	})
	attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
	b.must(err)
	io.WriteString(attached.Stdin(), "go\n")
	if e := b.exit(); e.Code() != 5 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); out != "half line\n" {
		t.Errorf("log %q", out)
	}
	attached.Close()
}

func fdsOf(b *box) (all []string) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.m.MonitorPID()))
	b.must(err)
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", b.m.MonitorPID(), fd.Name()))
		all = append(all, fd.Name()+" "+to)
	}
	return all
}

func TestUpgradeWaitsForWhatIsUnderWay(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 10 {
				if out, _, code := b.exec("sh", "-c", "echo x; exit 4"); out != "x\n" || code != 4 {
					t.Errorf("exec during upgrades: %q, %d", out, code)
				}
			}
		})
	}
	for range 10 {
		b.must(b.m.Upgrade(b.ctx, monitorPath))
	}
	running.Wait()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.m.MonitorPID()))
	b.must(err)
	if list := strings.Fields(string(children)); len(list) != 1 {
		t.Errorf("children %q, only the init is left to have", list)
	}
}

func TestMonitorIsSmallAndIdleAfterAnUpgrade(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo hello; printf half; sleep 1000").start()
	b.must(b.m.Upgrade(b.ctx, monitorPath))
	b.eventually("the half line", func() bool { out, _ := b.log(); return out == "hello\nhalf" })
	time.Sleep(time.Second) // the buffers are given back when nothing happens, which no one can watch for
	pid := b.m.MonitorPID()
	dirty := field(t, pid, "smaps_rollup", "Private_Dirty")
	t.Logf("private dirty %d kB", dirty)
	if dirty > idleLimit {
		t.Errorf("%d kB, limit %d", dirty, idleLimit)
	}
	if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) != "vitrine-monitor\n" {
		t.Errorf("its name is %q", name)
	}
}
