package client_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// killMonitor kills the monitor and waits until that is noticed.
func (b *box) killMonitor() {
	b.Helper()
	b.must(syscall.Kill(b.m.MonitorPID(), syscall.SIGKILL))
	select {
	case <-b.m.Lost():
	case <-b.m.Exited():
	case <-b.ctx.Done():
		b.Fatal("nobody noticed that the monitor was killed")
	}
	// An exit may be told by a monitor that is about to die.
	b.eventually("the monitor's end", func() bool { return !alive(b.m.MonitorPID()) })
}

// adopt puts a new monitor in place; forgetful does it as a daemon that was away.
func (b *box) adopt(forgetful bool) {
	b.Helper()
	lost := b.m
	if forgetful {
		lost = nil
	}
	next, err := client.Adopt(b.ctx, b.dir, monitorPath, b.spawn.Cgroup, lost)
	b.must(err)
	b.must(b.m.Close())
	b.m = next
}

func TestKilledMonitorsLoseNoLineAndNoExit(t *testing.T) {
	const lines = 400000
	b := newBox(t, "sh", "-c", fmt.Sprintf("seq %d; seq 5 >&2; exit 42", lines)).start()
	kills := 0
	for kills < 15 {
		time.Sleep(time.Duration(kills%5) * time.Millisecond) // to hit it at different moments
		b.killMonitor()
		select {
		case <-b.m.Exited():
		default:
			b.adopt(false)
			kills++
			continue
		}
		break
	}
	e := b.exit()
	if !alive(b.m.MonitorPID()) { // the last one had written the exit record
		b.m.Close()
		b.m = nil
	}
	if e.Code() != 42 || e.Source != wire.SourcePidfd && kills > 0 {
		t.Errorf("after %d kills: exit %+v", kills, e)
	}
	t.Logf("%d kills", kills)
	out, errs := b.log()
	n := 0
	for line := range strings.Lines(out) {
		if n++; line != fmt.Sprintln(n) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if n != lines || e.LogLines != lines+5 || strings.Count(errs, "\n") != 5 {
		t.Errorf("%d lines, the record says %d, stderr %q", n, e.LogLines, errs)
	}
}

func TestAdoptedContainerIsAsBefore(t *testing.T) {
	b := newBox(t, "sh", "-c", `printf half; read x; echo " line $x"; read y; echo "end $y" >&2; exit 7`)
	b.spawn.Stdin = true
	b.start()
	b.eventually("the half line", func() bool { o, _ := b.log(); return o == "half" })
	attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdout: true})
	b.must(err)
	b.killMonitor()
	if _, err := attached.Wait(b.ctx); err == nil {
		t.Error("the attached client was not told")
	}
	attached.Close()
	b.adopt(false)
	again, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true, Stdout: true})
	b.must(err)
	_, err = io.WriteString(again.Stdin(), "one\n")
	b.must(err)
	b.eventually("the line", func() bool { o, _ := b.log(); return o == "half line one\n" })
	if out, _, code := b.exec("sh", "-c", "echo x; exit 3"); out != "x\n" || code != 3 {
		t.Errorf("exec: %q, %d", out, code)
	}
	b.must(os.Rename(b.spawn.LogPath, b.spawn.LogPath+".1"))
	b.must(b.m.ReopenLog(b.ctx))
	b.must(b.m.Upgrade(b.ctx, monitorPath))
	b.killMonitor()
	b.adopt(false)
	again, err = b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
	b.must(err)
	_, err = io.WriteString(again.Stdin(), "two\n")
	b.must(err)
	if e := b.exit(); e.Code() != 7 || e.Source != wire.SourcePidfd || e.StartedAt == 0 {
		t.Errorf("exit %+v", e)
	}
	if _, errs := b.log(); errs != "end two\n" {
		t.Errorf("stderr %q", errs)
	}
	again.Close()
}

func TestAdoptionBeforeTheStart(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo started; exit 4").create()
	b.killMonitor()
	b.adopt(false)
	b.must(b.m.StartContainer(b.ctx))
	if e := b.exit(); e.Code() != 4 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); out != "started\n" {
		t.Errorf("log %q", out)
	}
}

func TestAdoptionFindsThePipesInTheContainer(t *testing.T) {
	b := newBox(t, "sh", "-c", `echo before; read x; echo "after $x"; exit 9`)
	b.spawn.Stdin = true
	b.start()
	b.eventually("the first line", func() bool { o, _ := b.log(); return o == "before\n" })
	// Nobody holds the pipes but the container, and stdin ended with its last writer:
	// what was lent is kept by this test as a daemon's death would not.
	b.must(syscall.Kill(b.m.MonitorPID(), syscall.SIGKILL))
	<-b.m.Lost()
	b.adopt(true)
	attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
	b.must(err)
	_, err = io.WriteString(attached.Stdin(), "all\n")
	b.must(err)
	if e := b.exit(); e.Code() != 9 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); out != "before\nafter all\n" {
		t.Errorf("log %q", out)
	}
	attached.Close()
}

func TestTerminalIsAttachedAgainAfterItsMonitorWasReplaced(t *testing.T) {
	b := newBox(t, "sh", "-c", `echo ready; read x; echo "got $x"; exit 3`)
	b.spawn.Terminal, b.spawn.Stdin, b.spec.Process.Terminal = true, true, true
	b.start()
	b.eventually("ready", func() bool { o, _ := b.log(); return strings.Contains(o, "ready") })
	b.killMonitor()
	b.adopt(false)
	attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true, Stdout: true})
	b.must(err)
	_, err = io.WriteString(attached.Stdin(), "it\n")
	b.must(err)
	if e := b.exit(); e.Code() != 3 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); !strings.Contains(out, "got it") {
		t.Errorf("log %q", out)
	}
	attached.Close()
}

func TestContainerThatEndedUnwatchedHasItsExitCode(t *testing.T) {
	b := newBox(t, "sh", "-c", "read x; echo last; exit 11")
	b.spawn.Stdin = true
	b.start()
	b.killMonitor()
	b.must(syscall.Kill(b.made.PID, syscall.SIGKILL))
	b.eventually("the end", func() bool { return !alive(b.made.PID) })
	b.adopt(false)
	if e := b.exit(); e.Code() != 137 || e.Source != wire.SourcePidfd {
		t.Errorf("exit %+v", e)
	}
}

func TestCloseStdinIsSeenThoughStdinIsLent(t *testing.T) {
	b := newBox(t, "sh", "-c", "cat; exit 6")
	b.spawn.Stdin = true
	b.start()
	b.must(b.m.CloseStdin(b.ctx))
	if e := b.exit(); e.Code() != 6 {
		t.Errorf("exit %+v", e)
	}
}
