package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Spawn is what a monitor is started with.
type Spawn struct {
	// Dir is the container's directory, absolute and existing; the monitor's files
	// (ctl, exit, monitor.log, telemetry.spool) appear here.
	Dir string
	ID  string
	// MonitorPath and LaunchPath are the binaries.
	MonitorPath, LaunchPath string
	// WatchRequest is the path of the launch.Request (OpWatch) that replaces the keeper of
	// a container at a shim; empty for others.
	WatchRequest string
	// Request is the path of the launch.Request (OpCreate) that makes the container.
	Request string
	// ExecFifo is what StartContainer opens: launch.ExecFifo of a native container.
	// Empty means that the launcher runs StartRequest instead.
	ExecFifo string
	// StartRequest and DeleteRequest are paths of launch requests (OpStart, OpDelete).
	// DeleteRequest runs at Shutdown and after a creation that was given up; empty for none.
	StartRequest, DeleteRequest string
	// LogPath is the CRI log file, absolute; empty discards the container's output.
	LogPath string
	// LogMaxLine is the number of bytes of a line that one record holds; 0 is 16384,
	// at most 1 MiB.
	LogMaxLine int
	// LogTrusted is the directory above LogPath up to which symbolic links are followed;
	// below it none is. Empty: only the file itself may not be one.
	LogTrusted string
	// LogLimit bounds each stream; its zero value does not.
	LogLimit wire.LogLimit
	// LogOTLP and LogJournal send the container's lines to TelemetrySocket and to the
	// host's journal as well, as far as those keep up.
	LogOTLP, LogJournal bool
	// JournalSocket is where the journal listens; empty means systemd's own.
	JournalSocket              string
	Terminal, Stdin, StdinOnce bool
	// Traceparent is the parent of monitor.create; empty means that of ctx (WithTraceparent).
	Traceparent string
	// TelemetrySocket is the path of the daemon's OTLP receiver; empty for none.
	TelemetrySocket string
	// Attributes go on every span of the monitor.
	Attributes map[string]string
	// OOMScoreAdj is the monitor's own; clamped by the kernel to what the daemon may set.
	OOMScoreAdj int
	// Cgroup is where the monitor, and the launcher with it, is born: directories separated
	// by ':', one of each hierarchy; empty means the daemon's.
	Cgroup string
	// Notify is what happens to system calls that the container's seccomp filter leaves to
	// user space. The filter's listener path is then NotifyFile in Dir.
	Notify uint8
	// AttachStall is how long an attached client may read nothing while output waits
	// for it; 0 is ten seconds.
	AttachStall time.Duration
	// LogStall is how long a call to the log's file system may take: one that takes twice
	// as long is given up until it returns. 0 is a second.
	LogStall time.Duration
}

// Created is a container whose init waits to execute the user's program.
type Created struct {
	PID   int
	Steps []launch.Step
	Way   string // launch.Reply.Way
}

// abortGrace bounds how long a monitor may take to undo a creation before it is killed.
const abortGrace = 10 * time.Second

// Start starts a monitor in a session of its own, so that nothing that reaches the
// daemon reaches it, and has it create the container. On an error nothing is left
// running; a failed launch is a *launch.Error. When ctx ends first, the creation is
// given up and undone.
func Start(ctx context.Context, s Spawn) (*Monitor, Created, error) {
	config, err := s.config(ctx)
	var m *Monitor
	var created Created
	if err == nil {
		m, created, err = start(ctx, s, config, nil, nil)
	}
	if err != nil {
		return nil, Created{}, fmt.Errorf("create container %s: %w", s.ID, err)
	}
	return m, created, nil
}

// start takes over gate, the read end of the launcher's gate, and spare, which serves s; either
// may be nil.
func start(ctx context.Context, s Spawn, config *wire.Config, gate *os.File, spare *Spare) (*Monitor, Created, error) {
	var files []int
	if gate != nil {
		defer gate.Close()
		files = []int{int(gate.Fd())}
	}
	var ours int
	var proc *process
	var err error
	if spare != nil {
		ours, proc = spare.sock, spare.process
	} else if ours, proc, err = s.spawn(); err != nil {
		return nil, Created{}, err
	}
	c, err := connFromFD(ours)
	var m *Monitor
	if err == nil {
		m, err = newMonitor(s.Dir, c, proc)
	}
	if err != nil {
		proc.kill()
		return nil, Created{}, errors.Join(err, proc.wait(context.WithoutCancel(ctx)))
	}
	reply, fds, err := c.call(ctx, &wire.Message{Kind: wire.Create, Flags: wire.FlagLend, Body: config.Append(nil)}, files)
	m.borrow(reply.Flags, fds)
	if err != nil {
		if errors.Is(err, ErrLost) {
			err = fmt.Errorf("%w: %s", err, lastLine(s.Dir+"/"+wire.LogFile))
		}
		return nil, Created{}, errors.Join(err, m.abandon())
	}
	r, err := launch.ParseReply(string(reply.Body))
	if err == nil && r.Error != nil {
		err = r.Error
	}
	if err != nil {
		return nil, Created{}, joinUndo(err, m.abandon())
	}
	m.knowInit(r.PID)
	m.info = wire.Info{Monitor: proc.pid, Init: r.PID, ID: s.ID, Request: s.Request, Terminal: s.Terminal, Stdin: s.Stdin, StdinOnce: s.StdinOnce}
	return m, Created{PID: r.PID, Steps: r.Steps, Way: strings.Clone(r.Way)}, nil // it is kept; the rest of the reply is not
}

func joinUndo(err, undo error) error {
	if undo == nil {
		return err
	}
	return errors.Join(err, undo)
}

// abandon gives up a creation: the monitor is told to undo it and killed when it
// does not. It does not use the caller's context, which may have ended.
func (m *Monitor) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), abortGrace)
	defer cancel()
	err := m.Destroy(ctx)
	if err != nil {
		m.process.kill()
		err = errors.Join(err, m.process.wait(context.Background()), m.Close())
	}
	return err
}

func (s *Spawn) config(ctx context.Context) (*wire.Config, error) {
	if !filepath.IsAbs(s.Dir) {
		return nil, fmt.Errorf("monitor directory %q is not absolute", s.Dir)
	}
	if s.LogMaxLine < 0 || s.LogMaxLine > 1<<20 {
		return nil, fmt.Errorf("log line limit of %d bytes, at most %d", s.LogMaxLine, 1<<20)
	}
	if s.LogTrusted != "" && !strings.HasPrefix(s.LogPath, strings.TrimSuffix(s.LogTrusted, "/")+"/") {
		return nil, fmt.Errorf("log path %s is not below %s", s.LogPath, s.LogTrusted)
	}
	c := &wire.Config{
		LogTrusted: len(s.LogTrusted), LogLimit: s.LogLimit, LogOTLP: s.LogOTLP, LogJournal: s.LogJournal, JournalSocket: s.JournalSocket,
		ID: s.ID, Dir: s.Dir, Launcher: s.LaunchPath, Request: s.Request, ExecFifo: s.ExecFifo, WatchRequest: s.WatchRequest,
		Notify:       s.Notify,
		StartRequest: s.StartRequest, DeleteRequest: s.DeleteRequest, LogPath: s.LogPath, LogMaxLine: s.LogMaxLine,
		Terminal: s.Terminal, Stdin: s.Stdin, StdinOnce: s.StdinOnce,
		Traceparent: s.Traceparent, TelemetrySocket: s.TelemetrySocket,
		OOMScoreAdj: max(-1000, min(1000, s.OOMScoreAdj)), Requested: time.Now().UnixNano(),
		AttachStall: int(s.AttachStall / time.Millisecond), LogStall: int(s.LogStall / time.Millisecond), Path: os.Getenv("PATH"),
	}
	if c.Traceparent == "" {
		c.Traceparent = traceparent(ctx)
	}
	for k, v := range s.Attributes {
		c.Attributes = append(c.Attributes, wire.Attribute{Key: k, Value: v})
	}
	sort.Slice(c.Attributes, func(i, j int) bool { return c.Attributes[i].Key < c.Attributes[j].Key })
	return c, nil
}

// spawn forks the monitor and returns the daemon's end of its first connection.
func (s *Spawn) spawn() (sock int, p *process, err error) { return s.spawnAs(s.Dir, s.Dir) }

// spawnAs is spawn of a monitor whose log is in dir and whose argument is another.
func (s *Spawn) spawnAs(dir, argument string) (sock int, p *process, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make control socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "monitor")
	defer theirs.Close()
	p, err = fork(s.MonitorPath, dir, s.Cgroup, []string{"vitrine-monitor", argument}, theirs)
	if err != nil {
		syscall.Close(pair[0])
		return -1, nil, err
	}
	return pair[0], p, nil
}

// fork starts a monitor in a cgroup, as startIn has it, with descriptors from wire.SocketFD
// on, which stay the caller's.
func fork(program, dir, cgroup string, args []string, files ...*os.File) (*process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(dir+"/"+wire.LogFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open monitor's log: %w", err)
	}
	defer log.Close()
	pidfd := -1
	// The directory is for people and for a daemon that died before it heard from
	// this monitor: it is how either finds out whose it is.
	p, err := startIn(cgroup, program, args, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOGC=off"},
		Files: append([]*os.File{null, null, log}, files...),
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		return nil, fmt.Errorf("start monitor: %w", err)
	}
	defer p.Release()
	return newProcess(p.Pid, pidfd), nil
}

// newMonitor takes c over.
func newMonitor(dir string, c *conn, p *process) (*Monitor, error) {
	m := &Monitor{dir: dir, conn: c, sessions: map[uint32]*Session{}, process: p,
		exited: make(chan struct{}), lost: make(chan struct{}), notified: make(chan struct{}, 1), stalled: make(chan struct{}, 1), lent: nothingLent}
	return m, m.begin(c)
}

// lastLine is the end of a small text file, for messages.
func lastLine(path string) string {
	raw, err := readBounded(path, 1<<20)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "no word in its log"
}
