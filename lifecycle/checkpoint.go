package lifecycle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// CheckpointContainer writes the state of a Running container to a new file at location
// (package checkpoint says what is in it) and lets the container go on. It is paused from before
// its processes are written down until its files are. A timeout of 0 is that of creations.
// On an error there is no file and the container runs. Without a criu that works
// here, or for a container that it cannot take up again: pod.ErrUnsupported.
func (m *Manager) CheckpointContainer(ctx context.Context, id, location string, timeout time.Duration) (err error) {
	e, sb, err := m.containerAndSandbox(id)
	if err != nil {
		return err
	}
	c := *e.value.Load()
	ctx, op := m.ops.begin(ctx, "checkpoint_container", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(timeout, m.config.createTimeout()))
	defer cancel()
	op.enter("lock")
	if err := e.lock.acquire(ctx, c.ID); err != nil {
		return err
	}
	defer e.lock.release()
	return m.take(ctx, op, []*shot{m.shotOf(e, sb, location)}, func(s *shot) (string, error) { return m.images.Scratch(string(s.Container.ID), "checkpoint") })
}

// shot is one container on its way into an archive. The caller holds its lock.
type shot struct {
	checkpoint.Taken
	entry   *containerEntry
	archive string // where the archive goes
	handler Handler
	criu    launch.Criu
}

// shotOf is of a container as it is before its lock is held.
func (m *Manager) shotOf(e *containerEntry, sb pod.Sandbox, archive string) *shot {
	c := *e.value.Load()
	return &shot{entry: e, archive: archive, Taken: checkpoint.Taken{Sandbox: sb, Container: c, Bundle: m.store.ContainerDir(c.ID)}}
}

// take checkpoints containers as they all are at one moment: every one is paused before
// the first is written down, and none goes on before the last one is. They run when it
// returns, whatever it returns. workDir makes the directory of a shot.
func (m *Manager) take(ctx context.Context, op *operation, shots []*shot, workDir func(*shot) (string, error)) (err error) {
	if err := m.aim(shots); err != nil {
		return err
	}
	if err := op.step(ctx, "criu", func(ctx context.Context) error {
		path, err := m.criu.Usable(ctx, m.config.CriuPath)
		for _, s := range shots {
			s.criu.Path = path
		}
		return err
	}); err != nil {
		return err
	}

	defer func() {
		for _, s := range shots {
			err = errors.Join(err, s.clean(m))
		}
	}()
	if err := op.step(ctx, "intent", func(context.Context) error {
		for _, s := range shots {
			if err := s.prepare(m, workDir); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}

	paused := true // thawing what was not frozen is nothing
	thaw := func() error {
		var errs []error
		for _, s := range shots {
			errs = append(errs, m.cgroups.Thaw(s.Container.Cgroup))
		}
		paused = errors.Join(errs...) != nil
		return errors.Join(errs...)
	}
	defer func() {
		if paused {
			err = errors.Join(err, thaw())
		}
	}()
	if err := op.step(ctx, "pause", func(ctx context.Context) error {
		for _, s := range shots {
			if err := m.cgroups.Freeze(ctx, s.Container.Cgroup); err != nil {
				return err
			}
			s.At = time.Now()
		}
		return nil
	}); err != nil {
		return err
	}
	for _, s := range shots {
		if err := op.step(ctx, "dump", func(ctx context.Context) error { return m.dump(ctx, s) }); err != nil {
			return err
		}
	}
	for _, s := range shots {
		if err := op.step(ctx, "diff", func(ctx context.Context) error { return s.Save(ctx, m.images) }); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "resume", func(context.Context) error { return thaw() }); err != nil {
		return err
	}
	return op.step(ctx, "archive", func(ctx context.Context) error { return writeAll(ctx, shots) })
}

// aim refuses containers of which there can be no checkpoint now, and takes the others as they are.
func (m *Manager) aim(shots []*shot) (err error) {
	for _, s := range shots {
		if s.Container = *s.entry.value.Load(); s.Container.State != pod.Running {
			return fmt.Errorf("checkpoint container %s: %w: it is %s, not %s", s.Container.ID.Short(), pod.ErrState, s.Container.State, pod.Running)
		}
		if err := m.checkpointable(s.Sandbox, s.Container); err != nil {
			return err
		}
		if s.handler, err = m.config.handler(s.Container.Handler); err != nil {
			return err
		}
		s.Runtime = handlerName(s.handler)
	}
	return nil
}

// writeAll makes all archives, or none.
func writeAll(ctx context.Context, shots []*shot) error {
	for i, s := range shots {
		if err := s.Write(ctx, s.archive); err != nil {
			for _, done := range shots[:i] {
				err = errors.Join(err, os.Remove(done.archive))
			}
			return err
		}
	}
	return nil
}

// checkpointFile in a container's directory says that a checkpoint is being made. A
// daemon that finds one lets the container go on and removes what the last one left.
const checkpointFile = "checkpoint"

// intent is the content of a checkpointFile.
type intent struct {
	Work string `json:"work"`
}

// prepare makes the work directory, on record before the container is paused.
func (s *shot) prepare(m *Manager, workDir func(*shot) (string, error)) (err error) {
	work, err := workDir(s)
	if s.Work = checkpoint.Work(work); err != nil {
		return fmt.Errorf("checkpoint container %s: %w", s.Container.ID.Short(), err)
	}
	s.criu.Images, s.criu.Work = s.Work.Images(), s.Work.Criu()
	raw, err := json.Marshal(intent{work})
	if err == nil {
		err = os.WriteFile(filepath.Join(s.Bundle, checkpointFile), raw, 0o600)
	}
	for _, dir := range []string{s.criu.Images, s.criu.Work} {
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", s.Container.ID.Short(), err)
	}
	return nil
}

// clean removes what prepare made.
func (s *shot) clean(m *Manager) error {
	if s.Work == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(string(s.Work)), ignoreGone(os.Remove(filepath.Join(s.Bundle, checkpointFile))))
}

// dump has criu write the container's processes down.
func (m *Manager) dump(ctx context.Context, s *shot) error {
	c := s.Container
	raw, err := json.Marshal(launch.Request{
		Op: launch.OpCheckpoint, ID: string(c.ID), Bundle: s.Bundle, Root: m.runtimeRoot(),
		Runtime: m.runtime(s.handler), Criu: &s.criu,
	})
	request := filepath.Join(string(s.Work), "request.json")
	if err == nil {
		err = os.WriteFile(request, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", c.ID.Short(), err)
	}
	reply, err := runLauncher(ctx, m.config.launcher(s.handler), request)
	if ctx.Err() != nil {
		return fmt.Errorf("checkpoint container %s: %w", c.ID.Short(), context.Cause(ctx))
	}
	if err == nil && reply.Error != nil {
		err = launchError(reply.Error)
	}
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", c.ID.Short(), err)
	}
	return nil
}

// finishCheckpoint ends a checkpoint that the daemon's death interrupted: the container
// must not stay paused.
func (m *Manager) finishCheckpoint(ctx context.Context, c pod.Container) error {
	path := filepath.Join(m.store.ContainerDir(c.ID), checkpointFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return ignoreGone(err)
	}
	if err := m.cgroups.Thaw(c.Cgroup); err != nil {
		return err
	}
	var left intent
	if err := json.Unmarshal(raw, &left); err == nil && filepath.IsAbs(left.Work) {
		if err := os.RemoveAll(left.Work); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

// checkpointable refuses what criu cannot take up again, or this runtime cannot give it
// (docs/decisions/0095).
func (m *Manager) checkpointable(sb pod.Sandbox, c pod.Container) error {
	handler, err := m.config.handler(c.Handler)
	if err != nil {
		return err
	}
	why := ""
	switch {
	case handler.Shim != "":
		why = "containerd shims are not asked for checkpoints"
	case !m.features(c.Handler).Checkpoint:
		why = "its runtime does not say that it makes checkpoints"
	case userNamespace(sb) != nil:
		why = "its pod has a user namespace"
	case c.Config.GetTty():
		why = "it has a terminal, whose other end cannot be handed over"
	case c.Config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() != runtime.NamespaceMode_CONTAINER:
		why = "it shares its process namespace, in which its process ids may be taken"
	}
	if why != "" {
		return fmt.Errorf("container %s cannot be in a checkpoint: %w: %s", c.Config.GetMetadata().GetName(), pod.ErrUnsupported, why)
	}
	return nil
}

// handlerName is what config.dump calls the runtime.
func handlerName(h Handler) string {
	if !h.external() {
		return "libcontainer"
	}
	return filepath.Base(h.binary())
}
