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

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// CheckpointContainer writes the state of a Running container to a new file at location
// (archive.go says what is in it) and lets the container go on. It is paused from before
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
	s := &shot{entry: e, sandbox: sb, archive: location}
	return m.take(ctx, op, []*shot{s}, func(s *shot) (string, error) { return m.images.Scratch(string(s.container.ID), "checkpoint") })
}

// shot is one container on its way into an archive. The caller holds its lock.
type shot struct {
	entry     *containerEntry
	sandbox   pod.Sandbox
	container pod.Container
	archive   string // where the archive goes
	work      string // directory of what goes into it; removed afterwards
	at        time.Time
	handler   Handler
	criu      launch.Criu
}

// take checkpoints containers as they all are at one moment: every one is paused before
// the first is written down, and none goes on before the last one is. They run when it
// returns, whatever it returns. workDir makes the directory of a shot.
func (m *Manager) take(ctx context.Context, op *operation, shots []*shot, workDir func(*shot) (string, error)) (err error) {
	for _, s := range shots {
		if s.container = *s.entry.value.Load(); s.container.State != pod.Running {
			return fmt.Errorf("checkpoint container %s: %w: it is %s, not %s", s.container.ID.Short(), pod.ErrState, s.container.State, pod.Running)
		}
		if err := m.checkpointable(s.sandbox, s.container); err != nil {
			return err
		}
		if s.handler, err = m.config.handler(s.container.Handler); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "criu", func(ctx context.Context) error {
		path, err := m.criu.usable(ctx, m.config.CriuPath)
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
			errs = append(errs, m.cgroups.Thaw(s.container.Cgroup))
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
			if err := m.cgroups.Freeze(ctx, s.container.Cgroup); err != nil {
				return err
			}
			s.at = time.Now()
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
		if err := op.step(ctx, "diff", func(ctx context.Context) error { return m.saveFiles(ctx, s) }); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "resume", func(context.Context) error { return thaw() }); err != nil {
		return err
	}
	return op.step(ctx, "archive", func(ctx context.Context) error {
		for i, s := range shots {
			if err := s.write(ctx); err != nil {
				for _, done := range shots[:i] {
					err = errors.Join(err, os.Remove(done.archive))
				}
				return err
			}
		}
		return nil
	})
}

// Names in a shot's work directory.
const (
	shotImages  = "images"  // criu's images
	shotCriu    = "criu"    // its log and statistics
	shotChanges = "changes" // the archive of changed files
	shotDeleted = "deleted" // the list of deleted ones, JSON
	shotLog     = "log"     // the container's log so far
	shotSpec    = "spec"    // the OCI specification
)

// checkpointFile in a container's directory says that a checkpoint is being made. A
// daemon that finds one lets the container go on and removes what the last one left.
const checkpointFile = "checkpoint"

// intent is the content of a checkpointFile.
type intent struct {
	Work string `json:"work"`
}

// prepare makes the work directory, on record before the container is paused.
func (s *shot) prepare(m *Manager, workDir func(*shot) (string, error)) (err error) {
	if s.work, err = workDir(s); err != nil {
		return fmt.Errorf("checkpoint container %s: %w", s.container.ID.Short(), err)
	}
	s.criu.Images, s.criu.Work = filepath.Join(s.work, shotImages), filepath.Join(s.work, shotCriu)
	raw, err := json.Marshal(intent{s.work})
	if err == nil {
		err = os.WriteFile(filepath.Join(m.store.ContainerDir(s.container.ID), checkpointFile), raw, 0o600)
	}
	for _, dir := range []string{s.criu.Images, s.criu.Work} {
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", s.container.ID.Short(), err)
	}
	return nil
}

// clean removes what prepare made.
func (s *shot) clean(m *Manager) error {
	if s.work == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(s.work), ignoreGone(os.Remove(filepath.Join(m.store.ContainerDir(s.container.ID), checkpointFile))))
}

// dump has criu write the container's processes down.
func (m *Manager) dump(ctx context.Context, s *shot) error {
	c := s.container
	raw, err := json.Marshal(launch.Request{
		Op: launch.OpCheckpoint, ID: string(c.ID), Bundle: m.store.ContainerDir(c.ID), Root: m.runtimeRoot(),
		Runtime: m.runtime(s.handler), Criu: &s.criu,
	})
	request := filepath.Join(s.work, "request.json")
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
