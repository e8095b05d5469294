package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// holdBound is how long a pod's first process may take to be there, and its answer's
// greatest length in bytes.
const (
	holdBound  = 30 * time.Second
	holdAnswer = 1 << 10
)

// Hold starts the first process of a new pid namespace, which a pod's containers share: it
// has the kernel reap what loses its parent, can do nothing else, and ends by SIGKILL. dir
// is an argument by which it can be found later. namespaces are the pod's, by path, which
// it enters; owned says that the first one is a user namespace, to which the pid namespace
// then belongs. The process outlives its starter, who reaps it while it lives. It takes some
// milliseconds and is bounded by holdBound, not by a context: a process that is born while
// nobody listens would be known to nobody.
func (e *Enterer) Hold(dir string, owned bool, namespaces []string) (pid int, err error) {
	// Above what the program is given, and gone with its execve.
	program, err := unix.FcntlInt(e.file.Fd(), unix.F_DUPFD_CLOEXEC, 16)
	if err != nil {
		return 0, fmt.Errorf("fcntl: %w", err)
	}
	defer unix.Close(program)
	answer, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer answer.Close()
	kind := "pod"
	if owned {
		kind = "pod-users"
	}
	cmd := exec.Cmd{
		Path: "/proc/self/fd/" + strconv.Itoa(program), Args: append([]string{"vitrine-pod", kind, dir}, namespaces...),
		Env: []string{}, Dir: "/", ExtraFiles: []*os.File{theirs},
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, err
	}
	answer.SetReadDeadline(time.Now().Add(holdBound))
	raw, err := io.ReadAll(io.LimitReader(answer, holdAnswer)) // its end is the process's word
	cmd.Process.Kill()                                         // it has ended, unless it hangs
	waitErr := cmd.Wait()
	pid, said := heldPID(raw)
	if pid > 0 { // it is this process's child, and lives as long as the pod
		pidfd, openErr := unix.PidfdOpen(pid, 0)
		if openErr != nil {
			pidfd = -1
		}
		newProcess(pid, pidfd)
	}
	switch err = errors.Join(err, said); {
	case err != nil && pid > 0:
		return 0, errors.Join(err, unix.Kill(pid, unix.SIGKILL))
	case err != nil || pid == 0:
		return 0, errors.Join(err, waitErr, fmt.Errorf("%s has made no process", cmd.Args[0]))
	}
	return pid, nil
}

// heldPID reads "pid N" and what went wrong: "error KIND STEP errno N".
func heldPID(raw []byte) (pid int, err error) {
	for line := range bytes.Lines(raw) {
		words := bytes.Fields(line)
		switch {
		case len(words) == 2 && string(words[0]) == "pid":
			pid, _ = strconv.Atoi(string(words[1]))
		case len(words) == 5 && string(words[0]) == "error":
			n, _ := strconv.Atoi(string(words[4]))
			err = fmt.Errorf("%s: %w", bytes.TrimPrefix(words[2], []byte("enter.")), syscall.Errno(n))
		}
	}
	return pid, err
}
