package libct

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// A console is the way of a pty's master from the process that opened it, inside the
// container, to the launcher's caller.
type console struct {
	child  *os.File // the container's end
	parent *os.File
}

func newConsole() (*console, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	return &console{
		child:  os.NewFile(uintptr(pair[1]), "console"),
		parent: os.NewFile(uintptr(pair[0]), "console"),
	}, nil
}

// forward hands the master to the caller. The container's side has sent it, or ended,
// when this is called; it does not block.
func (c *console) forward() error {
	if c == nil {
		return nil
	}
	_ = c.child.Close()
	return forwardMaster(int(c.parent.Fd()))
}

// Close releases both ends. It is safe on nil and twice.
func (c *console) Close() {
	if c != nil {
		_ = c.child.Close()
		_ = c.parent.Close()
	}
}

// forwardMaster receives one descriptor from socket and sends it on to ConsoleFD.
func forwardMaster(socket int) error {
	data, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil || len(fds) == 0 {
			continue
		}
		err = unix.Sendmsg(launch.ConsoleFD, []byte{0}, unix.UnixRights(fds[0]), nil, unix.MSG_NOSIGNAL)
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("send the terminal to the caller: %w", err)
		}
		return nil
	}
	return errors.New("receive the terminal: no descriptor came")
}
