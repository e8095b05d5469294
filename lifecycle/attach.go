package lifecycle

import (
	"context"
	"sync"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/pod"
)

// An OCI runtime moves its init into the container's cgroups. The first such move waits for a
// grace period of RCU, with the lock that whoever makes or removes a cgroup needs, so it
// is begun when the request arrives (cgroup.Warm). Vitrine-enter's inits are born in their
// cgroups or move themselves alone, which never waits; there the same would only make the
// directories of their cgroups wait. Which way a container goes is known when it has gone;
// the one before it, of the same kind, tells.

// kind is what mostly decides who makes a container.
type kind struct {
	handler                              string
	terminal, privileged, ownUsers, host bool
	seccomp, profile                     string
}

func kindOf(c pod.Container) kind {
	security := c.Config.GetLinux().GetSecurityContext()
	namespaces := security.GetNamespaceOptions()
	return kind{
		handler: c.Handler, terminal: c.Config.GetTty(), privileged: security.GetPrivileged(),
		ownUsers: namespaces.GetUsernsOptions().GetMode() == runtime.NamespaceMode_POD, host: namespaces.GetPid() == runtime.NamespaceMode_NODE,
		seccomp: security.GetSeccomp().GetProfileType().String(), profile: security.GetSeccomp().GetLocalhostRef(),
	}
}

// maxKinds bounds what is remembered; localhost profiles are as many as somebody writes.
const maxKinds = 256

// unmoved are the kinds of containers whose last one was made without a move between
// cgroups. The zero value is empty: nothing is known of them.
type unmoved struct {
	mu    sync.Mutex // guards kinds
	kinds map[kind]bool
}

func (u *unmoved) has(k kind) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.kinds[k]
}

func (u *unmoved) note(k kind, way string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if way != launch.WayEnter {
		delete(u.kinds, k)
		return
	}
	if u.kinds == nil || len(u.kinds) >= maxKinds {
		u.kinds = map[kind]bool{}
	}
	u.kinds[k] = true
}

// warm begins the wait for the grace period, unless the container will hardly need it. The
// returned function ends it.
func (m *Manager) warm(ctx context.Context, c pod.Container, restored bool) (end func()) {
	if m.cgroups.Driver() != cgroup.Systemd && !restored && m.unmoved.has(kindOf(c)) {
		return func() {}
	}
	ctx, end = context.WithCancel(ctx)
	m.cgroups.Warm(ctx)
	return end
}
