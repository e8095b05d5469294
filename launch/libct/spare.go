package libct

/*
extern int vitrine_given;
extern int vitrine_pipes;
extern int vitrine_spare;
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// ErrNoContainer is returned to a spare launcher for which no container came.
var ErrNoContainer = errors.New("no container came")

// Enlist returns the path of the request that argument, the launcher's own, names. A spare
// (see launch.AppendBrief) first warms up and waits for its container; told is then when it
// heard of it, and what follows is as if it had been started for it. For others, told
// is zero.
func Enlist(argument string) (path string, told time.Time, err error) {
	if C.vitrine_spare == 0 {
		return argument, told, nil
	}
	warm()
	path, told, err = takeBrief()
	if err == io.EOF {
		return "", told, ErrNoContainer
	}
	if err != nil {
		return "", told, fmt.Errorf("wait for a container: %w", err)
	}
	if len(path) == len(argument) { // for people, who look at it with ps
		copy(unsafe.Slice(unsafe.StringData(argument), len(argument)), path)
	}
	return path, told, os.Chdir(filepath.Dir(path))
}

// takeBrief waits for the packet and puts the descriptors into their places.
func takeBrief() (path string, told time.Time, err error) {
	var packet [launch.MaxBrief]byte
	oob := make([]byte, unix.CmsgSpace(8*4))
	n, oobn := 0, 0
	for {
		var flags int
		n, oobn, flags, _, err = unix.Recvmsg(launch.GateFD, packet[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			err = unix.EMSGSIZE
		}
		break
	}
	told = time.Now()
	if err != nil {
		return "", told, err
	}
	if n == 0 {
		return "", told, io.EOF
	}
	given, path, ok := launch.ParseBrief(packet[:n])
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	var fds []int
	if err == nil && len(messages) == 1 {
		fds, err = unix.ParseUnixRights(&messages[0])
	}
	if err != nil || !ok || len(fds) != bits.OnesCount8(given) {
		return "", told, fmt.Errorf("a packet of %d bytes with %d descriptors is no brief", n, len(fds))
	}
	C.vitrine_given, C.vitrine_pipes = 1<<launch.ReplyFD, 0
	for fd := range 8 {
		switch {
		case given&(1<<fd) != 0:
			flags := unix.O_CLOEXEC
			if fd <= 2 {
				flags = 0 // the process's own
			}
			if err := unix.Dup3(fds[0], fd, flags); err != nil {
				return "", told, fmt.Errorf("put descriptor %d into its place: %w", fd, err)
			}
			unix.Close(fds[0])
			fds = fds[1:]
			C.vitrine_given |= 1 << fd
			var st unix.Stat_t
			if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
				C.vitrine_pipes |= 1 << fd
			}
		case fd == launch.ConsoleFD || fd == launch.ExecFD || fd == launch.GateFD:
			unix.Close(fd) // what kept its place
		}
	}
	return path, told, nil
}
