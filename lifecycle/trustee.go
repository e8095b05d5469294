package lifecycle

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
)

// trust keeps a trustee (client.Trustee) beside the daemon and tells it of every
// container. Without one containers live all the same; what is lost is told where a
// monitor and the daemon are both killed.
type trust struct {
	mu  sync.Mutex // guards now
	now *client.Trustee
}

func (t *trust) get() *client.Trustee {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// trusteeBound is how long a trustee may take to answer.
const trusteeBound = 2 * time.Second

// keepTrustee connects to the trustee of the daemon before, or starts one, and puts
// another in the place of one that is killed.
func (m *Manager) keepTrustee(ctx context.Context) {
	t := m.openTrustee(ctx)
	m.background(func(ctx context.Context) {
		defer func() { m.trust.get().Close() }()
		for pause := firstRetry; ; {
			if t != nil {
				select {
				case <-ctx.Done():
					return
				case <-t.Lost():
					pause = firstRetry
				}
			}
			t.Close()
			if t = m.openTrustee(ctx); t != nil {
				m.entrustAll(ctx)
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
				pause = min(2*pause, lastRetry)
			}
		}
	})
}

func (m *Manager) openTrustee(ctx context.Context) *client.Trustee {
	ctx, cancel := context.WithTimeout(ctx, trusteeBound)
	defer cancel()
	t, err := client.OpenTrustee(ctx, filepath.Join(m.config.StateDir, "trustee"), m.config.MonitorPath)
	warn(ctx, "containers would not survive the death of the daemon and their monitors together", err)
	m.trust.mu.Lock()
	m.trust.now = t
	m.trust.mu.Unlock()
	return t
}

// entrust gives the trustee what holds the container's streams.
func (m *Manager) entrust(ctx context.Context, id pod.ID, monitor *client.Monitor) {
	warn(ctx, "entrust a container's streams", m.trust.get().Entrust(string(id), monitor), "container", id)
}

func (m *Manager) entrustAll(ctx context.Context) {
	for _, e := range m.index.allContainers() {
		if monitor := e.monitor.Load(); monitor != nil {
			m.entrust(ctx, e.value.Load().ID, monitor)
		}
	}
}

// revoke has the trustee forget a container that has ended.
func (m *Manager) revoke(ctx context.Context, id pod.ID) {
	warn(ctx, "revoke a container's streams", m.trust.get().Revoke(string(id)), "container", id)
}

// sweepTrustee has the trustee forget the containers that have ended or are not known.
func (m *Manager) sweepTrustee(ctx context.Context) {
	t := m.trust.get()
	for _, e := range m.index.allContainers() {
		switch c := *e.value.Load(); c.State {
		case pod.Created, pod.Starting, pod.Running, pod.Stopping:
			warn(ctx, "retain a container's streams", t.Retain(string(c.ID)), "container", c.ID)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, trusteeBound)
	defer cancel()
	warn(ctx, "sweep the trustee", t.Sweep(ctx))
}
