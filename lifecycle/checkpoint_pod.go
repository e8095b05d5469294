package lifecycle

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// CheckpointPod writes the state of Running containers of one pod into the empty directory
// dir, as they all are at one moment, and lets them go on: an archive ID.tar for each.
// Nothing is written outside dir, and on an error dir is
// empty again. There are no options: any is pod.ErrInvalid. Without a deadline in ctx
// that of creations counts.
func (m *Manager) CheckpointPod(ctx context.Context, id, dir string, containers []string, options map[string]string) (err error) {
	if err := noOptions(options); err != nil {
		return err
	}
	owner, err := m.index.sandbox(id)
	if err != nil {
		return err
	}
	sb := *owner.value.Load()
	ctx, op := m.ops.begin(ctx, "checkpoint_pod", subject(sb), sb.ID, telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	ctx, cancel := context.WithTimeout(ctx, m.config.createTimeout())
	defer cancel()
	op.enter("lock")
	if err := owner.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer owner.lock.release()
	if sb = *owner.value.Load(); sb.State != pod.Ready {
		return fmt.Errorf("checkpoint sandbox %s: %w: it is %s, not %s", sb.ID.Short(), pod.ErrState, sb.State, pod.Ready)
	}
	shots, err := m.shotsOf(sb, dir, containers)
	if err != nil {
		return err
	}
	for _, s := range shots {
		if err := s.entry.lock.acquire(ctx, s.Container.ID); err != nil {
			return err
		}
		defer s.entry.lock.release()
	}
	return m.take(ctx, op, shots, func(s *shot) (string, error) {
		work := strings.TrimSuffix(s.archive, checkpoint.Suffix) + ".work"
		return work, os.Mkdir(work, 0o700)
	})
}

// shotsOf looks at a request for a pod: an existing empty directory, and containers of this
// pod, each once. They come in the order in which their locks are taken.
func (m *Manager) shotsOf(sb pod.Sandbox, dir string, containers []string) ([]*shot, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: output_path: %w", pod.ErrInvalid, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: output_path %s is no directory", pod.ErrInvalid, dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return nil, fmt.Errorf("%w: output_path %s is not empty (%d entries)", pod.ErrInvalid, dir, len(entries))
	}
	if len(containers) == 0 {
		return nil, fmt.Errorf("%w: container_ids is empty", pod.ErrInvalid)
	}
	found := map[pod.ID]*shot{}
	for _, id := range containers {
		e, err := m.index.container(id)
		if err != nil {
			return nil, err
		}
		c := *e.value.Load()
		if c.SandboxID != sb.ID {
			return nil, fmt.Errorf("%w: container %s is not of pod %s", pod.ErrInvalid, c.ID.Short(), sb.ID.Short())
		}
		if found[c.ID] != nil {
			return nil, fmt.Errorf("%w: container %s is named twice", pod.ErrInvalid, c.ID.Short())
		}
		found[c.ID] = m.shotOf(e, sb, filepath.Join(dir, string(c.ID)+checkpoint.Suffix))
	}
	var shots []*shot
	for _, id := range slices.Sorted(maps.Keys(found)) {
		shots = append(shots, found[id])
	}
	return shots, nil
}

// noOptions refuses options: this runtime has none.
func noOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		return fmt.Errorf("%w: unknown option %.100q; there are none", pod.ErrInvalid, key)
	}
	return nil
}
