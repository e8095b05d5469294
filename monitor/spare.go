package monitor

import (
	"strings"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// spare is what a monitor has that was begun before anyone asked for its container: a
// launcher that waits for its own, so that neither has to begin any more when the Create
// comes. Until then the monitor's argument keeps the place of the container's directory,
// and it ends with the daemon, or with its launcher.
//
//	daemon   ─Spare──────────────────Create──────────────────► the gate opens
//	monitor    └─ starts it           └─ DIR, log, sockets ─┐
//	launcher        └ begins, warms up, waits ··············└ brief: waits at the gate
type spare struct {
	m        *monitor
	run      *run // the launcher's, until it has a container; nil for none
	sock     int  // our end of the socket on which it is told
	launcher string
	used     bool // it was told
}

// begin starts the launcher. The message's Body is a Config, of which the launcher, its PATH
// and its argument count.
func (s *spare) begin(msg *wire.Message) {
	if err := s.start(msg); err != nil {
		complain("spare", err)
		s.m.done = true
	}
}

func (s *spare) start(msg *wire.Message) error {
	m := s.m
	if m.init.state != none || m.config.Dir != "" || s.run != nil {
		return fault("monitor.spare", launch.KindInvalid, "the monitor has a container already")
	}
	var c wire.Config
	if err := c.Parse(msg.Body); err != nil {
		return err
	}
	if err := renameArgument(""); err != nil { // better now than with a container
		return err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.sock = pair[0]
	defer syscall.Close(pair[1])
	m.config.Launcher, m.config.Path = c.Launcher, c.Path
	ends := noStreams
	ends.stderr, ends.gate, ends.spare = 2, pair[1], true
	r, failed := m.launch(c.Request, ends, false, nil, func(_ *run, reply launch.Reply) {
		s.run = nil
		complain("spare", reply.Error)
		m.done = true
	})
	if failed != nil {
		return failed
	}
	s.run, s.launcher = r, c.Launcher
	return nil
}

// settle makes the monitor that of the container in dir, also for who looks at it from
// outside: by this a new daemon finds it.
func (s *spare) settle(dir string) error {
	if s.run == nil {
		return nil
	}
	if err := renameArgument(dir); err != nil {
		return err
	}
	if err := syscall.Chdir(dir); err != nil {
		return err
	}
	fd, err := syscall.Open(wire.LogFile, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Dup3(fd, 2, 0)
}

// launch is monitor.launch for the container's creation: by the launcher that waits, or where
// that does not suit or is gone, by a new one.
func (s *spare) launch(path string, given streams, terminal bool, tail *tail, done func(*run, launch.Reply)) (*run, *launch.Error) {
	if r := s.run; r != nil && s.launcher == s.m.config.Launcher && s.brief(path, given, terminal) {
		s.run, s.used = nil, true
		closeFD(&s.sock)
		r.tail, r.done = tail, done
		return r, nil
	}
	s.end()
	return s.m.launch(path, given, terminal, tail, done)
}

// brief tells the launcher of its container.
func (s *spare) brief(path string, given streams, terminal bool) bool {
	console := -1
	if terminal {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return false
		}
		s.run.console, console = pair[0], pair[1]
		defer syscall.Close(console)
	}
	var fds [maxSent]int
	var bits uint8
	n := 0
	for number, fd := range [...]int{given.stdin, given.stdout, given.stderr, launch.ReplyFD: -1, launch.ConsoleFD: console, launch.ExecFD: given.exec, launch.GateFD: given.gate} {
		if fd >= 0 {
			fds[n], n, bits = fd, n+1, bits|1<<number
		}
	}
	packet := launch.AppendBrief(s.m.draft[:0], bits, path)
	return len(packet) <= launch.MaxBrief && send(s.sock, packet, fds[:n]) == 0
}

// end ends the launcher that waits.
func (s *spare) end() {
	r := s.run
	if r == nil {
		return
	}
	s.run = nil
	r.over = true
	r.kill()
	s.m.drop(&r.reply)
	closeFD(&r.console)
	logfile.Unmap(r.text[:cap(r.text)])
	r.text = nil
	closeFD(&s.sock)
}

// renameArgument overwrites the process's first argument, in the memory from which the kernel
// shows it (proc_pid_cmdline(5)). It must have the same length; empty is what it is.
func renameArgument(to string) error {
	args := readSmall(newPath("/proc/self/cmdline"), pad[:8192])
	program, argument, _ := strings.Cut(args, "\x00")
	argument, _, _ = strings.Cut(argument, "\x00")
	if to == "" {
		to = argument
	}
	if len(argument) != len(to) {
		return syscall.EINVAL
	}
	at := argumentsAt() + uint64(len(program)) + 1
	fd, err := syscall.Open("/proc/self/mem", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Pwrite(fd, []byte(to), int64(at))
	return err
}

// argumentsAt is where the arguments of this process are: the field arg_start of proc_pid_stat(5).
func argumentsAt() uint64 {
	text := readSmall(newPath("/proc/self/stat"), pad[8192:12288])
	rest := text[strings.LastIndexByte(text, ')')+1:]
	for range 48 - 2 {
		_, rest, _ = strings.Cut(rest, " ")
	}
	word, _, _ := strings.Cut(rest, " ")
	return number(word)
}
