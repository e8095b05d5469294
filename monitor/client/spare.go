package client

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Spare is a monitor, with its launcher, that was begun before its container: the two
// have then no beginning of their own to wait for. It ends with this process, and when it
// is closed; StartEarly takes it. It is not safe for concurrent use.
type Spare struct {
	spawn    Spawn // what it was started with: Dir and Request count by their length
	programs [2]program
	sock     int
	process  *process
}

// spareBound is how long a spare may take to end.
const spareBound = 10 * time.Second

// StartSpare starts a spare for containers like s: with the same programs and cgroup, and
// with a directory and a request whose paths are as long. Dir, which it makes, is where it
// has its log until then; it is also its argument, with blanks that keep the place of the
// container's. Nothing of s but these is used.
func StartSpare(dir string, s Spawn) (*Spare, error) {
	p := &Spare{spawn: s}
	if err := p.start(dir); err != nil {
		return nil, fmt.Errorf("start a spare monitor: %w", err)
	}
	return p, nil
}

func (p *Spare) start(dir string) (err error) {
	s := &p.spawn
	argument, request := inPlaceOf(s.Dir, dir), inPlaceOf(s.Request, dir)
	if argument == "" || request == "" {
		return fmt.Errorf("%s is longer than a container's directory %s", dir, s.Dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Truncate(dir+"/"+wire.LogFile, 0); err != nil && !os.IsNotExist(err) {
		return err
	}
	if p.programs, err = programsOf(s); err != nil { // before they are executed: what comes then is another
		return err
	}
	if p.sock, p.process, err = s.spawnAs(dir, argument); err != nil {
		return err
	}
	config := wire.Config{Launcher: s.LaunchPath, Request: request, Path: os.Getenv("PATH")}
	msg := wire.Message{Kind: wire.Spare, Body: config.Append(nil)}
	if _, err := syscall.Write(p.sock, msg.Append(nil)); err != nil {
		return fmt.Errorf("tell it so: %w", joinUndo(err, p.Close()))
	}
	return nil
}

// inPlaceOf is argument with blanks, as long as path; empty if it is longer.
func inPlaceOf(path, argument string) string {
	if len(argument) > len(path) {
		return ""
	}
	return argument + strings.Repeat(" ", len(path)-len(argument))
}

// Serves reports whether the spare can become the monitor that s describes: it lives, and
// another one would be started from the same programs in the same way.
func (p *Spare) Serves(s Spawn) bool {
	now, err := programsOf(&p.spawn)
	return err == nil && p.Alive() && now == p.programs && s.MonitorPath == p.spawn.MonitorPath &&
		s.Cgroup == p.spawn.Cgroup && len(s.Dir) == len(p.spawn.Dir)
}

// Alive reports whether it has not ended by itself.
func (p *Spare) Alive() bool {
	select {
	case <-p.process.done:
		return false
	default:
		return true
	}
}

// Close ends the spare, unless it was taken, and waits for that.
func (p *Spare) Close() error {
	syscall.Close(p.sock)
	ctx, cancel := context.WithTimeout(context.Background(), spareBound) // nobody's request
	defer cancel()
	err := p.process.wait(ctx)
	if err != nil {
		p.process.kill()
		<-p.process.done
		return fmt.Errorf("a spare monitor did not end by itself: %w", err)
	}
	return nil
}

// program tells a file from one that took its place.
type program struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// programsOf are the monitor and the launcher of s.
func programsOf(s *Spawn) (all [2]program, err error) {
	for i, path := range [...]string{s.MonitorPath, s.LaunchPath} {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			return all, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		all[i] = program{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	}
	return all, nil
}
