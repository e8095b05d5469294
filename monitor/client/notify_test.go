package client_test

import (
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// notifying gives the box a filter that leaves two system calls to the monitor.
func (b *box) notifying(mode uint8) *box {
	b.spawn.Notify = mode
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: filepath.Join(b.dir, wire.NotifyFile),
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat", "unlink", "unlinkat"}, Action: specs.ActNotify}},
	}
	return b
}

// asked is how often each of the container's processes' commands was refused anything.
func (b *box) asked() (count uint64, kinds int) {
	b.Helper()
	calls, lost, err := client.ReadNotified(b.dir)
	b.must(err)
	if lost != 0 {
		b.Errorf("%d calls found no place", lost)
	}
	for _, c := range calls {
		count += c.Count
	}
	return count, len(calls)
}

func TestEverySystemCallLeftToTheMonitorIsRefusedAndCounted(t *testing.T) {
	b := newBox(t, "sh", "-c", `for i in 1 2 3 4 5; do busybox mkdir /tmp/a && echo made; done; : >/tmp/f; busybox rm /tmp/f && echo removed; read x; exit 3`).notifying(wire.NotifyLog)
	b.spawn.Stdin = true
	b.start()
	b.eventually("six refusals", func() bool { n, _ := b.asked(); return n == 6 })
	<-b.m.Notified()
	if _, errs, code := b.exec("busybox", "mkdir", "/tmp/b"); code != 1 || errs != "mkdir: can't create directory '/tmp/b': Operation not permitted\n" {
		t.Errorf("exec: %q, code %d", errs, code)
	}
	b.must(b.m.CloseStdin(b.ctx))
	if e := b.exit(); e.Code() != 3 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); out != "" {
		t.Errorf("something was let through: %q", out)
	}
	calls, _, err := client.ReadNotified(b.dir)
	b.must(err)
	if n, kinds := b.asked(); n != 7 || kinds != 2 || calls[0].Count != 6 || calls[0].Command != "busybox" || calls[0].Last.Before(calls[0].First) || calls[0].Killed {
		t.Errorf("counted %+v", calls)
	}
}

func TestKillEndsAContainerForItsFirstRefusedSystemCall(t *testing.T) {
	b := newBox(t, "sh", "-c", `read x; busybox mkdir /tmp/a; echo lived`).notifying(wire.NotifyKill)
	// What exec's own init is refused is not the container's fault.
	b.spec.Linux.Seccomp.Syscalls[0].Names = append(b.spec.Linux.Seccomp.Syscalls[0].Names, "open_tree")
	b.spawn.Stdin = true
	b.start()
	if _, _, code := b.exec("true"); code != 0 {
		t.Errorf("exec: %d", code)
	}
	b.must(b.m.CloseStdin(b.ctx))
	if e := b.exit(); e.Code() != 137 {
		t.Errorf("exit %+v", e)
	}
	if out, _ := b.log(); out != "" {
		t.Errorf("it went on: %q", out)
	}
	calls, _, err := client.ReadNotified(b.dir)
	b.must(err)
	if len(calls) != 1 || !calls[0].Killed {
		t.Errorf("counted %+v", calls)
	}
}

// Whatever becomes of the monitor and the daemon, a refused call returns, and as long as
// one of them lives each is counted.
func TestContainerNeverHangsInASystemCallLeftToTheMonitor(t *testing.T) {
	const calls = 3000
	b := newBox(t, "sh", "-c", fmt.Sprintf(`read x; cd /tmp; busybox mkdir $(seq %d) 2>/dev/null; echo done; read y; busybox mkdir z; exit 8`, calls)).notifying(wire.NotifyLog)
	b.spawn.Stdin = true
	b.start()
	in, err := b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
	b.must(err)
	_, err = io.WriteString(in.Stdin(), "go\n")
	b.must(err)
	defer in.Close()
	for i := range 12 {
		before, _ := b.asked()
		b.eventually("more refusals", func() bool {
			now, _ := b.asked()
			out, _ := b.log()
			return now > before || out == "done\n"
		})
		switch i % 3 {
		case 0:
			b.killMonitor()
			b.adopt(false)
		case 1:
			b.must(b.m.Upgrade(b.ctx, monitorPath))
		case 2: // the daemon goes and comes back
			b.must(b.m.Close())
			b.m, err = client.Connect(b.ctx, b.dir)
			b.must(err)
		}
	}
	b.eventually("the end of the calls", func() bool { out, _ := b.log(); return out == "done\n" })
	if n, _ := b.asked(); n < calls {
		t.Errorf("%d of %d calls were counted", n, calls)
	}
	// Nobody holds the listener now; the kernel answers instead.
	b.must(syscall.Kill(b.m.MonitorPID(), syscall.SIGKILL))
	<-b.m.Lost()
	b.adopt(true)
	in, err = b.m.Attach(b.ctx, client.AttachOptions{Stdin: true})
	b.must(err)
	_, err = io.WriteString(in.Stdin(), "go\n")
	b.must(err)
	defer in.Close()
	if e := b.exit(); e.Code() != 8 {
		t.Errorf("exit %+v", e)
	}
}
