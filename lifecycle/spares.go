package lifecycle

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// spares are monitors that were begun before their containers (docs/decisions/0171), so that
// a creation finds them ready. A new one is begun when no creation and no start has come or
// gone for a moment: it takes as much of the machine as it saves, and must not take it from
// a start. A pod that is made alone is the exception: its container comes next, and its monitor is
// begun beside it (docs/decisions/0190). Nobody is woken while none is missing.
type spares struct {
	mu     sync.Mutex // guards what follows
	want   int        // 0 until open and after close
	kept   []*client.Spare
	begun  int         // that are not kept yet
	due    *time.Timer // when those that are missing are begun
	making sync.WaitGroup
}

// How long after something of the kind a spare is begun.
const (
	// afterStart: a container has started, or the daemon has.
	afterStart = 10 * time.Millisecond
	// afterCreation bounds the wait for the start of what is being made, or waits for its start.
	afterCreation = time.Second
)

// maxSpares bounds Config.SpareMonitors.
const maxSpares = 16

// endSpares ends the spares of the daemon before that have not yet noticed its end. What shows
// itself as a spare has no container.
func (m *Manager) endSpares(ctx context.Context, processes []proc.Monitor) {
	for _, p := range processes {
		if len(p.Args) == 2 && strings.TrimRight(p.Args[1], " ") == m.sparesDir() {
			warn(ctx, "end a spare monitor of the daemon before", proc.End(ctx, p.PID, killBound), "pid", p.PID)
		}
	}
}

// openSpares has the first begun soon.
func (m *Manager) openSpares() {
	s := &m.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = m.config.spareMonitors()
	if s.want > 0 {
		s.due = time.AfterFunc(afterStart, m.fillSpares)
	}
}

// spareMonitors is how many are kept. A pod's own cgroup is not known before the pod, and to
// move a monitor there would leave its memory on another's account.
func (c Config) spareMonitors() int {
	if c.MonitorCgroup == forPods {
		return 0
	}
	return max(0, c.Effective().SpareMonitors)
}

// soon has what is missing begun after d without another call.
func (s *spares) soon(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due != nil && len(s.kept) < s.want {
		s.due.Reset(d)
	}
}

// expectContainer has one begun at once that is missing: a pod is being made. While anything
// else is going on there is no processor to spare.
func (m *Manager) expectContainer() {
	if !m.ops.alone() {
		return
	}
	s := &m.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want > 0 && len(s.kept)+s.begun < s.want {
		s.making.Go(m.fillSpares)
	}
}

// take returns a spare that serves spawn, nil if there is none. It may have only just begun: what
// it is told next waits for it.
func (s *spares) take(ctx context.Context, spawn client.Spawn) *client.Spare {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.kept) > 0 {
		spare := s.kept[0]
		s.kept = s.kept[1:]
		if spare.Serves(spawn) {
			return spare
		}
		s.making.Go(func() { // it has died, or the programs were replaced; nobody waits for that
			warn(ctx, "end a spare monitor that serves no more", spare.Close())
		})
	}
	return nil
}

// fillSpares begins one of those that are missing and comes back for the next.
func (m *Manager) fillSpares() {
	s := &m.spares
	s.mu.Lock()
	missing := len(s.kept)+s.begun < s.want
	if missing {
		s.begun++
		s.making.Add(1) // closeSpares waits
	}
	s.mu.Unlock()
	if !missing {
		return
	}
	defer s.making.Done()
	spare, err := m.startSpare()
	s.mu.Lock()
	s.begun--
	if err == nil && s.want > 0 {
		s.kept = append(s.kept, spare)
		spare = nil
	}
	s.mu.Unlock()
	switch {
	case err != nil: // it is tried again after the next start of a container
		warn(m.ctx, "keep a spare monitor", err)
	case spare != nil: // the daemon ends
		warn(m.ctx, "end a spare monitor", spare.Close())
	default:
		s.soon(afterStart)
	}
}

// sparesDir is where spares have their log; it is also their argument.
func (m *Manager) sparesDir() string { return filepath.Join(m.config.StateDir, "spare") }

func (m *Manager) startSpare() (*client.Spare, error) {
	spawn := client.Spawn{MonitorPath: m.config.MonitorPath, LaunchPath: m.config.LaunchPath, Dir: m.store.ContainerDir(pod.NewID())}
	spawn.Request = filepath.Join(spawn.Dir, createFile)
	var err error
	if spawn.Cgroup, err = m.monitorCgroup(pod.Sandbox{}); err != nil {
		return nil, err
	}
	return client.StartSpare(m.sparesDir(), spawn)
}

// closeSpares ends those that are kept and waits for them.
func (m *Manager) closeSpares() {
	s := &m.spares
	s.mu.Lock()
	kept := s.kept
	s.want, s.kept = 0, nil
	if s.due != nil {
		s.due.Stop()
	}
	s.mu.Unlock()
	for _, spare := range kept {
		warn(m.ctx, "end a spare monitor", spare.Close())
	}
	s.making.Wait()
}

// Spares is how many spare monitors wait for a container.
func (m *Manager) Spares() (n int) {
	m.spares.mu.Lock()
	defer m.spares.mu.Unlock()
	for _, s := range m.spares.kept {
		if s.Alive() {
			n++
		}
	}
	return n
}

// spareAttributes say on a creation's span whether it found a spare.
func (m *Manager) spareAttributes(used bool) []attribute.KeyValue {
	switch {
	case used:
		return []attribute.KeyValue{telemetry.KeySpare.String("used")}
	case m.config.spareMonitors() == 0:
		return []attribute.KeyValue{telemetry.KeySpare.String("off")}
	}
	return []attribute.KeyValue{telemetry.KeySpare.String("missed")}
}
