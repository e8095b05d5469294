package lifecycle

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
)

// sweep takes away what no record names: directories without a record, root file
// systems, pinned namespaces, runtime state, addresses.
func (m *Manager) sweep(ctx context.Context, damaged []pod.Damage, monitors map[pod.ID]int) {
	for _, d := range damaged {
		warn(ctx, "record cannot be believed; removing what it stands for", d.Err, "path", d.Path)
		warn(ctx, "remove a damaged record", m.removeDamaged(ctx, d, monitors), "path", d.Path)
	}
	known := func(id string) bool {
		_, isContainer := m.index.containers[pod.ID(id)]
		_, isSandbox := m.index.sandboxes[pod.ID(id)]
		return isContainer || isSandbox
	}
	for id, pid := range proc.Under(proc.Monitors(), filepath.Join(m.config.StateDir, "sandboxes")) {
		if e, err := m.index.sandbox(string(id)); err != nil || e.value.Load().Init.PID != pid {
			warn(ctx, "end an orphaned pod init", proc.End(ctx, pid, killBound), "sandbox", id)
		}
	}
	rootfses, err := m.images.Rootfses(ctx)
	warn(ctx, "list root file systems", err)
	for _, id := range rootfses {
		if !known(image.VolumeOwner(id)) {
			warn(ctx, "remove an orphaned root file system", m.images.RemoveRootfs(ctx, id), "container", id)
		}
	}
	pinned, err := m.network.Pinned()
	warn(ctx, "list pinned namespaces", err)
	for _, id := range pinned {
		if !known(id) {
			warn(ctx, "remove orphaned namespaces", m.network.RemoveNamespaces(ctx, id), "sandbox", id)
		}
	}
	states, err := os.ReadDir(m.runtimeRoot())
	warn(ctx, "list runtime state", ignoreGone(err))
	for _, s := range states {
		if !known(s.Name()) {
			warn(ctx, "remove orphaned runtime state", os.RemoveAll(filepath.Join(m.runtimeRoot(), s.Name())), "container", s.Name())
		}
	}
	m.background(m.collectNetwork) // runs plugins, which may be slow
}

func (m *Manager) removeDamaged(ctx context.Context, d pod.Damage, monitors map[pod.ID]int) error {
	if pid := monitors[d.ID]; pid != 0 {
		if err := proc.End(ctx, pid, killBound); err != nil {
			return err
		}
	}
	if d.ID == "" {
		return os.RemoveAll(d.Path)
	}
	return errors.Join(
		removeSandboxFiles(m.store.SandboxDir(d.ID)), m.store.DeleteSandbox(d.ID), m.store.DeleteContainer(d.ID))
}

// collectNetwork releases addresses of pods that no record names.
func (m *Manager) collectNetwork(ctx context.Context) {
	var keep []network.AttachRequest
	for _, sb := range m.Sandboxes() {
		if ownNetwork(sb) && sb.State != pod.NotReady {
			keep = append(keep, attachRequest(sb))
		}
	}
	if err := m.network.GC(ctx, keep); err != nil && !errors.Is(err, context.Canceled) {
		warn(ctx, "release networks of pods that are gone", err)
	}
}
