package libct_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// withConsole runs a request that starts a process with a terminal and returns its master.
func (b *box) withConsole(r launch.Request, extra ...*os.File) (launch.Reply, *os.File) {
	b.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	b.must(err)
	defer unix.Close(pair[0])
	its := os.NewFile(uintptr(pair[1]), "console")
	reply := b.run(r, nil, nil, nil, append([]*os.File{its}, extra...)...)
	its.Close()
	if reply.Error != nil {
		b.Fatalf("%s: %s", reply.Error.Step, reply.Error.Message)
	}
	data, control := make([]byte, 16), make([]byte, unix.CmsgSpace(4))
	n, c, _, _, err := unix.Recvmsg(pair[0], data, control, unix.MSG_CMSG_CLOEXEC)
	b.must(err)
	messages, err := unix.ParseSocketControlMessage(control[:c])
	b.must(err)
	if n != 1 || len(messages) != 1 {
		b.Fatalf("got %d bytes and %d messages with the terminal", n, len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	b.must(err)
	master := os.NewFile(uintptr(fds[0]), "master")
	b.Cleanup(func() { master.Close() })
	return reply, master
}

// readAll reads a master until the last slave is closed, which it reports as EIO.
func readAll(master *os.File) string {
	raw, _ := io.ReadAll(master)
	return strings.ReplaceAll(string(raw), "\r\n", "\n")
}

func TestContainerHasATerminal(t *testing.T) {
	b := newBox(t, "sh", "-c", "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo terminal; cat /dev/console >/dev/null & exit 4")
	b.spec.Process.Terminal = true
	b.spec.Process.ConsoleSize = &specs.Box{Width: 101, Height: 33}
	b.writeSpec()
	status, ours, err := os.Pipe()
	b.must(err)
	reply, master := b.withConsole(launch.Request{Op: launch.OpCreate}, ours)
	ours.Close()
	b.pid, b.exec = reply.PID, status
	b.start()
	if got := b.wait(b.pid).ExitStatus(); got != 4 {
		t.Errorf("exit code %d", got)
	}
	if got := readAll(master); got != "/dev/pts/0\n33 101\nterminal\n" {
		t.Errorf("got %q", got)
	}
}

func TestExecHasATerminal(t *testing.T) {
	b := running(t)
	p := b.process("sh", "-c", "tty; stty size; read line; echo got $line")
	p.Terminal = true
	p.ConsoleSize = &specs.Box{Width: 80, Height: 25}
	raw, err := json.Marshal(p)
	b.must(err)
	reply, master := b.withConsole(launch.Request{Op: launch.OpExec, Process: raw})
	_, err = master.WriteString("hello\n")
	b.must(err)
	b.wait(reply.PID)
	got := strings.Replace(readAll(master), "hello\n", "", 1) // the echo comes when it comes
	if got != "/dev/pts/0\n25 80\ngot hello\n" {
		t.Errorf("got %q", got)
	}
}
