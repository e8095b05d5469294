package lifecycle

import (
	"context"
	"sync"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// watches are the cgroups whose syscalls are watched for denials because their pods ask
// for it, and what ends each. The programs go with the last of them, and with the daemon.
type watches struct {
	mu   sync.Mutex // guards stop
	stop map[uint64]func() error
}

func (w *watches) put(cgroup uint64, stop func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop == nil {
		w.stop = map[uint64]func() error{}
	}
	w.stop[cgroup] = stop
}

func (w *watches) end(cgroup uint64) error {
	w.mu.Lock()
	stop := w.stop[cgroup]
	delete(w.stop, cgroup)
	w.mu.Unlock()
	if stop == nil {
		return nil
	}
	return stop()
}

// wantsDenials says whether a container's annotations ask for it.
func (m *Manager) wantsDenials(sb pod.Sandbox, c pod.Container) (bool, error) {
	return spec.WatchDenials(m.config.Annotations, c.Config.GetMetadata().GetName(), sb.Config.GetAnnotations(), c.Config.GetAnnotations())
}

// watchDenials watches a tracked container's syscalls if it asks for it: before PID 1 is
// the user's program, or, after a restart of the daemon, from then on. A failure costs
// lines of the ledger, not the container.
func (m *Manager) watchDenials(ctx context.Context, c pod.Container) {
	owner, err := m.index.sandbox(string(c.SandboxID))
	if err != nil {
		return
	}
	wanted, err := m.wantsDenials(*owner.value.Load(), c)
	if err != nil || !wanted { // a value that cannot be was refused at the creation
		return
	}
	stop, err := m.witness.WatchDenials(c.Evidence.Cgroup)
	if err != nil {
		warn(ctx, "a container's syscalls are not watched for denials", err, "container", c.ID)
		return
	}
	m.watches.put(c.Evidence.Cgroup, stop)
}
