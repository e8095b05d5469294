package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/enter"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// Enterer is the program vitrine-enter in sealed memory, from which monitors execute it: a
// container that finds it through /proc cannot write to it. It is safe for concurrent use
// and belongs to whoever opened it.
type Enterer struct{ file *os.File }

// OpenEnterer reads the program at path; os.ErrNotExist says that there is none.
func OpenEnterer(path string) (*Enterer, error) {
	file, err := enter.Seal(path)
	if err != nil {
		return nil, fmt.Errorf("keep vitrine-enter in memory: %w", err)
	}
	return &Enterer{file}, nil
}

// Close forgets the program; sessions that run do not need it.
func (e *Enterer) Close() error { return e.file.Close() }

// maxDeclined is how often in a row a container's monitor may decline before every session
// is libcontainer's at once. Commands that cannot be executed do not count.
const maxDeclined = 3

// errDeclined: the session needs the launcher.
var errDeclined = errors.New("declined")

// enter is exec without the launcher; errDeclined leaves the session to that, with nothing
// started.
func (m *Monitor) enter(ctx context.Context, o ExecOptions) (*Session, error) {
	if o.Enterer == nil || o.Terminal || o.Stdin || m.declined.Load() >= maxDeclined {
		return nil, errDeclined
	}
	plan, err := m.plan(o.Process)
	if err != nil {
		return nil, errDeclined
	}
	fd, err := enter.Memory("enter-plan", plan)
	if err != nil {
		return nil, err
	}
	p := pipes{theirs: []int{fd}}
	s, flags, err := m.newSession(&p, false, false, o.Stdout, o.Stderr)
	if err == nil {
		var program int
		if program, err = unix.FcntlInt(o.Enterer.file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			p.theirs = append(p.theirs, program)
		}
	}
	if err == nil {
		_, err = s.open(ctx, &wire.Message{Kind: wire.Exec, Flags: flags | wire.FlagEnter, Traceparent: o.Traceparent}, &p)
	}
	if err == nil {
		m.declined.Store(0)
		return s, nil
	}
	p.close()
	var failed *launch.Error
	if ctx.Err() != nil || !errors.As(err, &failed) || failed.Kind == launch.KindGone {
		return nil, err
	}
	switch failed.Step {
	case "enter.lookup", "enter.execute", "enter.directory":
	default:
		m.declined.Add(1)
	}
	return nil, errDeclined
}

// plan is what vitrine-enter shall do, if that is enough for the process.
func (m *Monitor) plan(process []byte) ([]byte, error) {
	facts, err := enter.ReadFacts(filepath.Dir(m.info.Request))
	if err != nil {
		return nil, err
	}
	var filter enter.Filter
	if facts.Filter != "" {
		if filter, err = enter.ReadFilter(facts.Filter); err != nil {
			return nil, err
		}
	}
	// An init that has gone into a namespace of one of these kinds by itself takes its
	// sessions with it, which only libcontainer does.
	for _, kind := range [...]string{"user", "time"} {
		if !sameNamespace(m.info.Init, kind) {
			return nil, fmt.Errorf("%s namespace: %w", kind, enter.ErrNeedsLibcontainer)
		}
	}
	var p specs.Process
	if err := json.Unmarshal(process, &p); err != nil {
		return nil, err
	}
	return enter.Plan(facts, filter, &p)
}

// sameNamespace tells whether the process is in this one's namespace; so it is where the
// kernel has no such kind.
func sameNamespace(pid int, kind string) bool {
	ours, err := os.Readlink("/proc/self/ns/" + kind)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
	return err == nil && ours == theirs
}
