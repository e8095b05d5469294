package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

func (b *box) attach(o client.AttachOptions) *client.Session {
	b.Helper()
	s, err := b.m.Attach(b.ctx, o)
	b.must(err)
	b.Cleanup(func() { s.Close() })
	return s
}

func (b *box) session(o client.ExecOptions) *client.Session {
	b.Helper()
	s, err := b.m.Exec(b.ctx, o)
	b.must(err)
	b.Cleanup(func() { s.Close() })
	return s
}

// until reads the stream until it has given want.
func until(t *testing.T, r io.Reader, want string) string {
	t.Helper()
	var got []byte
	buf := make([]byte, 4096)
	for !strings.Contains(string(got), want) {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	return string(got)
}

func TestAttachedClientsFeedAndSeeTheContainer(t *testing.T) {
	b := newBox(t, "sh", "-c", "while read line; do echo got $line; echo err $line >&2; done; echo over")
	b.spawn.Stdin, b.spawn.StdinOnce = true, true
	b.start()
	watcher := b.attach(client.AttachOptions{Stdout: true})
	s := b.attach(client.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
	fmt.Fprintf(s.Stdin(), "one\n")
	until(t, s.Stdout(), "got one\n")
	until(t, s.Stderr(), "err one\n")
	until(t, watcher.Stdout(), "got one\n")
	s.Stdin().Close() // the container's stdin was for one client
	until(t, s.Stdout(), "over\n")
	if code, err := s.Wait(b.ctx); code != 0 || err != nil {
		t.Errorf("wait: %d, %v", code, err)
	}
	if rest := <-readAll(watcher.Stdout()); rest != "over\n" {
		t.Errorf("the watcher saw %q", rest)
	}
	b.exit()
	if out, errs := b.log(); out != "got one\nover\n" || errs != "err one\n" {
		t.Errorf("log %q, %q", out, errs)
	}
}

func TestStdinStaysOpenBetweenClientsUnlessItIsForOne(t *testing.T) {
	b := newBox(t, "cat")
	b.spawn.Stdin = true
	b.start()
	for i := range 3 {
		s := b.attach(client.AttachOptions{Stdin: true, Stdout: true})
		fmt.Fprintf(s.Stdin(), "%d\n", i)
		until(t, s.Stdout(), fmt.Sprintf("%d\n", i))
		s.Close()
	}
	b.must(b.m.CloseStdin(b.ctx))
	if e := b.exit(); e.Code() != 0 {
		t.Errorf("exit %+v", e)
	}
}

func TestStdinCarriesMuchMoreThanItsBuffers(t *testing.T) {
	b := newBox(t, "wc", "-c")
	b.spawn.Stdin, b.spawn.StdinOnce = true, true
	b.start()
	s := b.attach(client.AttachOptions{Stdin: true, Stdout: true})
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	if n, err := s.Stdin().Write(data); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
	s.Stdin().Close()
	if got := <-readAll(s.Stdout()); got != "8388608\n" {
		t.Errorf("got %q", got)
	}
}

func TestClientThatDoesNotReadIsDisconnectedAndNeverHoldsUpTheContainer(t *testing.T) {
	b := newBox(t, "sh", "-c", "seq 2000000; sleep 1000")
	b.spawn.AttachStall = 300 * time.Millisecond
	b.create()
	slow := b.attach(client.AttachOptions{Stdout: true})
	quick := b.attach(client.AttachOptions{Stdout: true})
	seen := make(chan int)
	go func() {
		n := 0
		buf := make([]byte, 1<<20)
		for {
			k, err := quick.Stdout().Read(buf)
			n += k
			if err != nil {
				seen <- n
				return
			}
		}
	}()
	b.must(b.m.StartContainer(b.ctx))
	began := time.Now()
	_, err := slow.Wait(b.ctx)
	var notice *launch.Error
	if !errors.As(err, &notice) || !strings.Contains(notice.Message, "did not read") {
		t.Fatalf("wait: %v", err)
	}
	b.eventually("the whole log", func() bool {
		s, err := b.m.Stats(b.ctx)
		b.must(err)
		return s.LogLines == 2000000 && s.AttachDropped == 1
	})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, false))
	<-seen
}

func TestSlowClientMissesOutputWithAMarkerInItsPlace(t *testing.T) {
	b := newBox(t, "sh", "-c", "seq 600000; read go; echo the end")
	b.spawn.Stdin, b.spawn.StdinOnce = true, true
	b.create()
	s := b.attach(client.AttachOptions{Stdin: true, Stdout: true})
	b.must(b.m.StartContainer(b.ctx))
	b.eventually("the whole log", func() bool {
		c, err := b.m.Stats(b.ctx)
		b.must(err)
		return c.LogLines == 600000 && c.AttachSkipped > 0
	})
	got := until(t, s.Stdout(), "bytes are not shown")
	fmt.Fprintln(s.Stdin(), "go")
	if rest := <-readAll(s.Stdout()); !strings.HasSuffix(rest, "the end\n") || !strings.HasPrefix(got, "1\n2\n3\n") {
		t.Errorf("after the marker: %q", rest)
	}
	if _, err := s.Wait(b.ctx); err != nil {
		t.Error(err)
	}
}

func TestTerminalIsResizedEchoesAndIsLogged(t *testing.T) {
	b := newBox(t, "sh", "-c", "stty size; while read line; do stty size; done; echo done")
	b.spawn.Terminal, b.spawn.Stdin, b.spawn.StdinOnce = true, true, true
	b.spec.Process.Terminal = true
	b.spec.Process.ConsoleSize = &specs.Box{Width: 90, Height: 30}
	b.create()
	s := b.attach(client.AttachOptions{Stdin: true, Stdout: true})
	b.must(b.m.StartContainer(b.ctx))
	until(t, s.Stdout(), "30 90\r\n")
	b.must(s.Resize(132, 43))
	fmt.Fprintf(s.Stdin(), "again\n")
	until(t, s.Stdout(), "again\r\n43 132\r\n")
	s.Stdin().Close()
	until(t, s.Stdout(), "done\r\n")
	if e := b.exit(); e.Code() != 0 {
		t.Errorf("exit %+v", e)
	}
	if out, errs := b.log(); out != "30 90\r\nagain\r\n43 132\r\ndone\r\n" || errs != "" {
		t.Errorf("log %q, %q", out, errs)
	}
}

func TestExecGivesOutputAndExitCode(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	for script, want := range map[string]int32{"echo out; echo err >&2; exit 5": 5, "echo out; echo err >&2; kill -9 $$": 137} {
		if out, errs, code := b.exec("sh", "-c", script); out != "out\n" || errs != "err\n" || code != want {
			t.Errorf("%s: %q, %q, %d", script, out, errs, code)
		}
	}
	if out, _, _ := b.exec("sh", "-c", "seq 300000"); strings.Count(out, "\n") != 300000 {
		t.Errorf("%d lines of 300000", strings.Count(out, "\n"))
	}
	s := b.session(client.ExecOptions{Process: b.process("wc", "-c"), Stdin: true, Stdout: true})
	io.Copy(s.Stdin(), bytes.NewReader(make([]byte, 3<<20)))
	s.Stdin().Close()
	if got := <-readAll(s.Stdout()); got != "3145728\n" {
		t.Errorf("stdin: %q", got)
	}
	if code, err := s.Wait(b.ctx); code != 0 || err != nil {
		t.Error(code, err)
	}
}

func TestExecOfWhatCannotBeExecutedHasItsKind(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	for command, want := range map[string]launch.Kind{"no-such-command": launch.KindNotFound, "/bin/plain": launch.KindNotExecutable,
		"/bin/garbage": launch.KindNotExecutable, "/bin/orphan": launch.KindNotFound} {
		_, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.process(command), Stdout: true})
		var failed *launch.Error
		if !errors.As(err, &failed) || failed.Kind != want || strings.Contains(failed.Message, "\n") {
			t.Errorf("%s: %v", command, err)
		}
	}
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, false))
	b.exit()
	_, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.process("true")})
	var failed *launch.Error
	if !errors.As(err, &failed) || failed.Kind != launch.KindGone {
		t.Errorf("in a container that has ended: %v", err)
	}
	if s, err := b.m.Stats(b.ctx); err != nil || s.ExecSessions != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestExecWithATerminal(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	raw := []byte(`{"args":["sh"],"cwd":"/","env":["PATH=/bin","PS1=$ "],"terminal":true,"consoleSize":{"width":70,"height":20}}`)
	s := b.session(client.ExecOptions{Process: raw, Terminal: true, Stdin: true})
	fmt.Fprintf(s.Stdin(), "stty size\n")
	until(t, s.Stdout(), "20 70\r\n")
	b.must(s.Resize(120, 50))
	fmt.Fprintf(s.Stdin(), "stty size\n")
	until(t, s.Stdout(), "50 120\r\n")
	fmt.Fprintf(s.Stdin(), "exit 4\n")
	if code, err := s.Wait(b.ctx); code != 4 || err != nil {
		t.Error(code, err)
	}
	io.ReadAll(s.Stdout()) // ends
}

func TestExecEndsAlthoughAChildHoldsItsStreams(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	began := time.Now()
	out, _, code := b.exec("sh", "-c", "sleep 1000 & echo here")
	if out != "here\n" || code != 0 || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %q, %d", time.Since(began), out, code)
	}
}

func TestKillEndsTheWholeTreeOfAnExec(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	// a child, a grandchild, an orphan of the same session, and a child with a session of its own
	s := b.session(client.ExecOptions{Process: b.process("sh", "-c",
		"sleep 2001 & sh -c 'sleep 2002 & sleep 2003' & sh -c 'sleep 2004 & exit' ; setsid sleep 2005 & echo ready; wait"), Stdout: true})
	until(t, s.Stdout(), "ready\n")
	b.eventually("five sleeps", func() bool { out, _, _ := b.exec("ps"); return strings.Count(out, "sleep 200") >= 5 })
	b.must(s.Kill(b.ctx))
	if code, err := s.Wait(b.ctx); code != 137 || err != nil {
		t.Errorf("wait: %d, %v", code, err)
	}
	if out, _, _ := b.exec("ps"); strings.Contains(out, "sleep 200") || !strings.Contains(out, "sleep 1000") {
		t.Errorf("left in the container:\n%s", out)
	}
	b.must(s.Kill(b.ctx)) // over already
}

// What has made itself a daemon, with a session of its own and parents that have ended,
// belongs to the exec all the same; so does what is forked while it is being killed. What
// an exec has left behind at its own end is the container's.
func TestKillEndsWhatAnExecHasDaemonised(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	b.exec("sh", "-c", "setsid sh -c 'sleep 4000 & exit' >/dev/null 2>&1 & exit") // left behind
	for round := range 2 {
		s := b.session(client.ExecOptions{Process: b.process("sh", "-c",
			"setsid sh -c 'sleep 3001 & sleep 3002 & exit' & setsid sh -c 'setsid sh -c \"sleep 3003 & exit\" & exit' & "+
				"while :; do setsid sh -c 'sleep 3004 & exit'; sleep 0.05; done & echo ready; wait; sleep 3005"), Stdout: true})
		until(t, s.Stdout(), "ready\n")
		b.eventually("the daemons", func() bool {
			out, _, _ := b.exec("ps")
			return strings.Contains(out, "sleep 3001") && strings.Contains(out, "sleep 3002") && strings.Contains(out, "sleep 3003") && strings.Count(out, "sleep 3004") > 2
		})
		b.must(s.Kill(b.ctx))
		if code, err := s.Wait(b.ctx); code != 137 || err != nil {
			t.Errorf("wait: %d, %v", code, err)
		}
		b.eventually("the end of all of them", func() bool { out, _, _ := b.exec("ps"); return !strings.Contains(out, "sleep 300") })
		if out, _, _ := b.exec("ps"); !strings.Contains(out, "sleep 4000") || !strings.Contains(out, "sleep 1000") {
			t.Errorf("round %d took what was not the exec's:\n%s", round, out)
		}
	}
}

func TestExecIsKilledWhenItsContextEndsDuringTheLaunch(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	for i := range 20 {
		ctx, cancel := context.WithTimeout(b.ctx, time.Duration(i)*2*time.Millisecond)
		if s, err := b.m.Exec(ctx, client.ExecOptions{Process: b.process("sleep", "3000"), Stdout: true}); err == nil {
			b.must(s.Kill(b.ctx))
			s.Close()
		}
		cancel()
	}
	b.eventually("no session and no process", func() bool {
		s, err := b.m.Stats(b.ctx)
		b.must(err)
		out, _, _ := b.exec("ps")
		return s.ExecSessions == 0 && !strings.Contains(out, "sleep 3000")
	})
}

func TestManyShortExecsAtOnceKeepTheirCodes(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	results := make(chan error, 40)
	for i := range 40 {
		go func() {
			s, err := b.m.Exec(b.ctx, client.ExecOptions{Process: b.process("sh", "-c", fmt.Sprintf("exit %d", i)), Stdout: true})
			if err == nil {
				defer s.Close()
				var code int32
				if code, err = s.Wait(b.ctx); err == nil && code != int32(i) {
					err = fmt.Errorf("exit %d became %d", i, code)
				}
			}
			results <- err
		}()
	}
	for range 40 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestDaemonComesBackToARunningContainer(t *testing.T) {
	b := newBox(t, "sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.01; done").start()
	pid := b.m.PID()
	b.m.Close()
	time.Sleep(100 * time.Millisecond)
	var err error
	b.m, err = client.Connect(b.ctx, b.dir)
	b.must(err)
	other, err := client.Connect(b.ctx, b.dir)
	b.must(err)
	defer other.Close()
	if b.m.PID() != pid || other.PID() != pid {
		t.Errorf("pid %d and %d, was %d", b.m.PID(), other.PID(), pid)
	}
	if _, _, code := b.exec("true"); code != 0 {
		t.Error("exec after reconnecting")
	}
	b.must(b.m.Signal(b.ctx, syscall.SIGTERM, true))
	b.must(b.m.Signal(b.ctx, syscall.SIGKILL, false))
	b.exit()
	<-other.Exited()
	out, _ := b.log()
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if line != fmt.Sprint("line ", i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func TestExitWhileNoDaemonIsThereIsFoundLater(t *testing.T) {
	b := newBox(t, "sh", "-c", "sleep 0.2; exit 9").start()
	b.m.Close()
	b.eventually("a record", func() bool { _, err := client.ReadExit(b.dir); return err == nil })
	var err error
	b.m, err = client.Connect(b.ctx, b.dir)
	b.must(err)
	if e := b.exit(); e.Code() != 9 {
		t.Errorf("exit %+v", e)
	}
	b.must(b.m.Shutdown(b.ctx))
	if _, err := client.Connect(b.ctx, b.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("connect after shutdown: %v", err)
	}
	b.eventually("end of the monitor", func() bool { return !alive(b.m.MonitorPID()) })
}

func TestSocketIsForRootOnly(t *testing.T) {
	b := newBox(t, "sleep", "1000").create()
	info, err := os.Stat(b.dir + "/" + wire.CtlFile)
	b.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Somebody who came to the socket although its mode forbids that is told nothing: the
// monitor asks the kernel who it is (SO_PEERCRED, unix(7)).
func TestConnectionOfAnotherUserIsClosed(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	b.must(os.Chmod(b.dir, 0o711))
	b.must(os.Chmod(b.dir+"/"+wire.CtlFile, 0o666))
	dir, err := os.Open(b.dir) // what is above it others may not pass
	b.must(err)
	defer dir.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), wire.CtlFile)
	for _, c := range []struct {
		uid  int
		want error // of a read that waits for a second
	}{{0, unix.EAGAIN}, {65534, nil}} {
		done := make(chan error, 1)
		go func() { // its thread is another user and ends with it
			runtime.LockOSThread()
			done <- func() error {
				if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(c.uid), uintptr(c.uid), uintptr(c.uid)); e != 0 {
					return fmt.Errorf("become %d: %w", c.uid, e)
				}
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
					return fmt.Errorf("connect: %w", err)
				}
				wait := unix.Timeval{Sec: 1}
				if c.want == nil {
					wait.Sec = 60 // the end comes at once, unless the machine is busy
				}
				if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
					return err
				}
				n, err := unix.Read(fd, make([]byte, 16))
				if n > 0 {
					return fmt.Errorf("%d bytes came", n)
				}
				return err
			}()
		}()
		if err := <-done; err != c.want {
			t.Errorf("user %d: %v, want %v", c.uid, err, c.want)
		}
	}
	if _, err := b.m.Stats(b.ctx); err != nil {
		t.Error(err)
	}
}

func TestRotationUnderLoadKeepsEveryLineOnce(t *testing.T) {
	const lines = 1000000
	b := newBox(t, "sh", "-c", fmt.Sprintf("seq %d", lines)).start()
	var files []string
	for i := 0; ; i++ {
		select {
		case <-b.m.Exited():
		case <-time.After(20 * time.Millisecond):
			rotated := fmt.Sprintf("%s.%d", b.spawn.LogPath, i)
			b.must(os.Rename(b.spawn.LogPath, rotated))
			files = append(files, rotated)
			b.must(b.m.ReopenLog(b.ctx))
			continue
		}
		break
	}
	next := 1
	for _, f := range append(files, b.spawn.LogPath) {
		raw, err := os.ReadFile(f)
		b.must(err)
		for line := range strings.Lines(content(t, raw)["stdout"]) {
			if strings.TrimSpace(line) != fmt.Sprint(next) {
				t.Fatalf("%s: %q where %d should be", f, line, next)
			}
			next++
		}
	}
	if next != lines+1 || len(files) == 0 {
		t.Errorf("%d lines in %d files", next-1, len(files)+1)
	}
}

func TestReopenErrorIsToldAndLeavesNoFile(t *testing.T) {
	b := newBox(t, "sleep", "1000").start()
	b.must(os.Rename(b.logs, b.logs+".away"))
	b.must(os.Rename(b.spawn.LogPath[:len(b.spawn.LogPath)-len("/0.log")]+".away", b.logs)) // back: the same directory
	b.must(os.Remove(b.spawn.LogPath))
	b.must(os.Symlink("/etc/passwd", b.spawn.LogPath))
	var failed *launch.Error
	if err := b.m.ReopenLog(b.ctx); !errors.As(err, &failed) || !strings.Contains(failed.Message, "symbolic links") {
		t.Errorf("got %v", err)
	}
}

func TestPromptCanBeReadBeforeItsLineEnds(t *testing.T) {
	b := newBox(t, "sh", "-c", "printf 'name: '; sleep 1000").start()
	b.eventually("the prompt", func() bool { out, _ := b.log(); return out == "name: " })
}

func TestFullDiskNeitherBlocksTheContainerNorGoesUnnoticed(t *testing.T) {
	b := newBox(t, "sh", "-c", "seq 300000; exit 6")
	if err := syscall.Mount("tmpfs", b.logs, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(b.logs, syscall.MNT_DETACH) })
	b.start()
	e := b.exit()
	out, _ := b.log()
	if e.Code() != 6 || e.LogDropped == 0 || int64(len(out))+e.LogDropped != e.LogBytes {
		t.Errorf("%d bytes kept, exit %+v", len(out), e)
	}
}

func TestOutputOfAnEndedSessionCanBeReadAfterItsClose(t *testing.T) {
	b := newBox(t, "sh", "-c", "read go; seq 5000")
	b.spawn.Stdin, b.spawn.StdinOnce = true, true
	b.start()
	s := b.attach(client.AttachOptions{Stdin: true, Stdout: true})
	fmt.Fprintln(s.Stdin(), "go")
	if _, err := s.Wait(b.ctx); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if out := <-readAll(s.Stdout()); strings.Count(out, "\n") != 5000 {
		t.Errorf("%d lines of 5000", strings.Count(out, "\n"))
	}
}
