package monitor

import (
	"bytes"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/logfile"
)

// maxReply bounds a launcher's reply in bytes; it goes on to the daemon in one packet.
const maxReply = 48 << 10

// run is one run of vitrine-launch. It ends, once, by calling done with a reply that
// has an error or what was asked for.
type run struct {
	m       *monitor
	pid     int
	reply   int    // read end of the reply pipe
	console int    // our end of the socket pair on which a pty's master comes
	master  int    // the master, once it has come; whoever takes it sets it to -1
	text    []byte // the reply so far; mapped
	tail    *tail  // the launcher's last words on stderr, if they come to us
	brief   bool   // nobody wants the steps
	over    bool   // done was called
	done    func(*run, launch.Reply)
}

// streams are what a launcher is given: the process's standard streams, the write
// end of the exec pipe, the read end of the gate. -1 is /dev/null for the streams,
// nothing for exec and gate. Program is what is run in the launcher's place, -1 for that
// itself; its exec is a pidfd of the init. A spare's gate is a socket, on which all that it
// has no place for yet comes later.
type streams struct {
	stdin, stdout, stderr, exec, gate, program int
	spare                                      bool
}

// noStreams gives a launcher none of them.
var noStreams = streams{-1, -1, -1, -1, -1, -1, false}

// ownFile is the path at which other processes find a descriptor of this one.
func ownFile(fd int) string {
	return "/proc/" + strconv.Itoa(syscall.Getpid()) + "/fd/" + strconv.Itoa(fd)
}

// launch starts vitrine-launch with the request at path. The caller keeps the streams.
func (m *monitor) launch(path string, s streams, terminal bool, tail *tail, done func(*run, launch.Reply)) (*run, *launch.Error) {
	r := &run{m: m, reply: -1, console: -1, master: -1, text: mapBuffer(maxReply)[:0], tail: tail, done: done}
	pid, err := r.spawn(path, s, terminal)
	if err != nil {
		closeFD(&r.reply)
		closeFD(&r.console)
		return nil, fault("monitor.spawn", launch.KindInternal, "run "+m.config.Launcher+": "+err.Error())
	}
	r.pid = pid
	m.procs.adopt(pid, r)
	m.watch(r.reply, syscall.EPOLLIN, r)
	return r, nil
}

func (r *run) spawn(path string, s streams, terminal bool) (pid int, err error) {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(null)
	var pipe, pair [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer syscall.Close(pipe[1])
	r.reply = pipe[0]
	syscall.SetNonblock(r.reply, true)
	const none = ^uintptr(0)
	files := [...]uintptr{uintptr(null), uintptr(null), uintptr(null), launch.ReplyFD: uintptr(pipe[1]), launch.ConsoleFD: none, launch.ExecFD: none, launch.GateFD: none}
	for i, fd := range [...]int{s.stdin, s.stdout, s.stderr} {
		if fd >= 0 {
			files[i] = uintptr(fd)
		}
	}
	if terminal {
		if pair, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return 0, err
		}
		defer syscall.Close(pair[1])
		r.console = pair[0]
		files[launch.ConsoleFD] = uintptr(pair[1])
	}
	if s.spare { // no file of the launcher's own may take their numbers
		files[launch.ConsoleFD], files[launch.ExecFD] = uintptr(null), uintptr(null)
	}
	if s.exec >= 0 {
		files[launch.ExecFD] = uintptr(s.exec)
	}
	if s.gate >= 0 {
		files[launch.GateFD] = uintptr(s.gate)
	}
	if r.m.environ == nil {
		r.m.environ = append(launch.Environ(), "PATH="+r.m.config.Path)
	}
	program, name := r.m.config.Launcher, "vitrine-launch"
	if s.program >= 0 {
		program, name = ownFile(s.program), "vitrine-enter"
	}
	return syscall.ForkExec(program, []string{name, path}, &syscall.ProcAttr{
		Env:   r.m.environ,
		Files: files[:],
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
}

// ready reads the reply.
func (r *run) ready(uint32) {
	r.m.active = true
	for r.reply >= 0 {
		n, e := read(r.reply, r.m.scratch)
		if e == syscall.EAGAIN {
			break
		}
		if n == 0 || len(r.text)+n > maxReply {
			r.m.drop(&r.reply)
			break
		}
		r.text = append(r.text, r.m.scratch[:n]...)
	}
	if bytes.HasSuffix(r.text, []byte("end\n")) {
		if r.brief {
			r.text = dropSteps(r.text)
		}
		text := unsafe.String(unsafe.SliceData(r.text), len(r.text))
		if reply, err := launch.ParseReply(text); err == nil {
			r.finish(reply)
		}
	}
}

// dropSteps removes the steps from a reply, in place: parsing them costs memory.
func dropSteps(text []byte) []byte {
	kept := text[:0]
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n') + 1
		if end == 0 {
			end = len(text)
		}
		if !bytes.HasPrefix(text[:end], []byte("step ")) {
			kept = append(kept, text[:end]...)
		}
		text = text[end:]
	}
	return kept
}

// finish ends the run with the reply, whose strings are valid until done returns. The
// launcher itself may still be on its way out.
func (r *run) finish(reply launch.Reply) {
	if r.over {
		return
	}
	r.over = true
	r.m.drop(&r.reply)
	if r.console >= 0 {
		var fds [4]int
		if _, n, e := receive(r.console, r.m.scratch[:64], &fds); e == 0 && n > 0 {
			r.master = fds[0]
		}
		closeFD(&r.console)
	}
	r.done(r, reply)
	closeFD(&r.master)
	if r.text != nil {
		logfile.Unmap(r.text[:cap(r.text)])
		r.text = nil
	}
}

// exited is called when the launcher was reaped. A reply is complete by now or will
// never be.
func (r *run) exited(status uint32, usage *syscall.Rusage) {
	r.pid = 0
	r.m.counts.LaunchCPUNanos += cpuTime(usage)
	r.ready(0)
	if r.over {
		return
	}
	if r == r.m.init.creation {
		r.m.streams[1].drain(readsPerTurn) // its stderr is the container's
	}
	r.tail.collect()
	message := "vitrine-launch ended without an answer (" + describe(status) + ")"
	if text := r.tail.line(); text != "" {
		message += ": " + text
	}
	r.finish(launch.Reply{Error: fault("monitor.launch", launch.KindInternal, message)})
}

// kill ends the launcher and what it has started. Its exit, noticed by the reaper,
// ends the run. It returns whom it killed.
func (r *run) kill() map[int]process {
	if r.pid == 0 {
		return nil
	}
	return killTree([]int{r.pid}, "")
}

// describe is a wait status in words.
func describe(status uint32) string {
	if sig := status & 0x7f; sig != 0 {
		return "killed by signal " + strconv.Itoa(int(sig))
	}
	return "exit status " + strconv.Itoa(int(status>>8&0xff))
}
