package client_test

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// trusteePID is the process of the trustee in dir.
func (b *box) trusteePID(dir string) int {
	b.Helper()
	var pid int
	b.eventually("a trustee", func() bool {
		procs, _ := os.ReadDir("/proc")
		for _, p := range procs {
			raw, _ := os.ReadFile("/proc/" + p.Name() + "/cmdline")
			if strings.HasSuffix(string(raw), "\x00"+dir+"\x00"+wire.TrusteeArgument+"\x00") {
				pid, _ = strconv.Atoi(p.Name())
				return true
			}
		}
		return false
	})
	return pid
}

// end revokes what the trustee in dir holds of the box and waits for its end.
func (b *box) end(t *client.Trustee, dir string) {
	b.Helper()
	pid := b.trusteePID(dir)
	b.must(t.Revoke(b.spawn.ID))
	b.must(t.Close())
	b.eventually("the trustee's end", func() bool { return !alive(pid) })
}

// bothDie kills the monitor and forgets all that this process holds, as its own death
// would: in either order.
func (b *box) bothDie(daemonFirst bool, t *client.Trustee) {
	b.Helper()
	pid := b.m.MonitorPID()
	die := []func(){
		func() { b.must(t.Close()); b.must(b.m.Close()) },
		func() {
			b.must(syscall.Kill(pid, syscall.SIGKILL))
			b.eventually("the monitor's end", func() bool { return !alive(pid) })
		},
	}
	if !daemonFirst {
		die[0], die[1] = die[1], die[0]
	}
	die[0]()
	die[1]()
	b.m = nil
}

func TestContainerLivesThroughTheDeathOfMonitorAndDaemon(t *testing.T) {
	for _, daemonFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("daemon first %v", daemonFirst), func(t *testing.T) {
			const lines = 5000 // they fit the pipe
			b := newBox(t, "sh", "-c", fmt.Sprintf(`read x; seq %d; echo half >&2; : >/tmp/written; read y; echo "end $y"; exit 42`, lines))
			b.spawn.Stdin = true
			b.start()
			dir := t.TempDir() + "/trustee"
			trustee, err := client.OpenTrustee(b.ctx, dir, monitorPath)
			b.must(err)
			b.must(trustee.Entrust(b.spawn.ID, b.m))
			attached, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
			b.must(err)
			b.bothDie(daemonFirst, trustee)
			attached.Close()
			// It writes while nobody reads: a pipe without a holder would end it. Its stdin
			// is open, too, or it would have come to its end.
			in, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", b.made.PID), os.O_WRONLY, 0)
			b.must(err)
			_, err = io.WriteString(in, "go\n")
			b.must(err)
			in.Close()
			b.eventually("all lines written", func() bool {
				_, err := os.Stat(fmt.Sprintf("/proc/%d/root/tmp/written", b.made.PID))
				return err == nil
			})

			trustee, err = client.OpenTrustee(b.ctx, dir, monitorPath)
			b.must(err)
			b.m, err = trustee.Adopt(b.ctx, b.spawn.ID, b.dir, monitorPath, "")
			b.must(err)
			again, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
			b.must(err)
			defer again.Close()
			_, err = io.WriteString(again.Stdin(), "all\n")
			b.must(err)
			if e := b.exit(); e.Code() != 42 || e.Source != wire.SourcePidfd {
				t.Errorf("exit %+v", e)
			}
			want := &strings.Builder{}
			for i := range lines {
				fmt.Fprintln(want, i+1)
			}
			if out, errs := b.log(); out != want.String()+"end all\n" || errs != "half\n" {
				t.Errorf("log: %d bytes, want %d; stderr %q", len(out), want.Len(), errs)
			}
			b.end(trustee, dir)
		})
	}
}

func TestContainerThatEndedWhileMonitorAndDaemonWereDeadHasItsExitCodeAndItsLastLines(t *testing.T) {
	b := newBox(t, "sh", "-c", "read x; echo last; exit 11")
	b.spawn.Stdin = true
	b.start()
	dir := t.TempDir() + "/trustee"
	trustee, err := client.OpenTrustee(b.ctx, dir, monitorPath)
	b.must(err)
	b.must(trustee.Entrust(b.spawn.ID, b.m))
	b.bothDie(false, trustee)
	in, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", b.made.PID), os.O_WRONLY, 0)
	b.must(err)
	_, err = io.WriteString(in, "go\n")
	b.must(err)
	in.Close()
	b.eventually("the end", func() bool { return !alive(b.made.PID) })

	trustee, err = client.OpenTrustee(b.ctx, dir, monitorPath)
	b.must(err)
	b.m, err = trustee.Adopt(b.ctx, b.spawn.ID, b.dir, monitorPath, "")
	b.must(err)
	if e := b.exit(); e.Code() != 11 || e.Source != wire.SourcePidfd {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); out != "last\n" {
		t.Errorf("log %q", out)
	}
	b.end(trustee, dir)
}

func TestTrusteeForgetsWhatIsRevokedOrSwept(t *testing.T) {
	b := newBox(t, "sleep", "100").start()
	dir := t.TempDir() + "/trustee"
	first, err := client.OpenTrustee(b.ctx, dir, monitorPath)
	b.must(err)
	pid := b.trusteePID(dir)
	held := func() int {
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return len(fds)
	}
	b.must(first.Sweep(b.ctx)) // it has accepted the connection
	empty := held()
	for _, id := range []string{"revoked", "stays", "swept"} {
		b.must(first.Entrust(id, b.m))
	}
	b.must(first.Sweep(b.ctx))
	const each = 3 // pidfd, stdout, stderr
	if got := held() - empty; got != 3*each {
		t.Errorf("%d descriptors of three containers, want %d", got, 3*each)
	}
	b.must(first.Close())

	second, err := client.OpenTrustee(b.ctx, dir, monitorPath)
	b.must(err)
	b.must(second.Revoke("revoked"))
	b.must(second.Retain("stays"))
	b.must(second.Sweep(b.ctx))
	b.eventually("the first connection's end", func() bool { return held() == empty+each })
	b.must(second.Revoke("stays"))
	b.must(second.Close())
	b.eventually("its end: it holds nothing for nobody", func() bool { return !alive(pid) })
}

func TestKilledTrusteeIsNoticed(t *testing.T) {
	b := newBox(t, "sleep", "100").start()
	dir := t.TempDir() + "/trustee"
	trustee, err := client.OpenTrustee(b.ctx, dir, monitorPath)
	b.must(err)
	b.must(trustee.Entrust(b.spawn.ID, b.m))
	b.must(syscall.Kill(b.trusteePID(dir), syscall.SIGKILL))
	select {
	case <-trustee.Lost():
	case <-b.ctx.Done():
		t.Fatal("nobody noticed that the trustee was killed")
	}
	b.must(trustee.Close())
	next, err := client.OpenTrustee(b.ctx, dir, monitorPath)
	b.must(err)
	b.must(next.Entrust(b.spawn.ID, b.m))
	b.end(next, dir)
}
