package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Restored is one container that RestorePod made.
type Restored struct {
	// Name is that of its configuration.
	Name string
	ID   pod.ID
}

// RestorePod makes a sandbox, and in it containers from the archives in dir, which
// CheckpointPod or CheckpointContainer wrote: complete, Created and stopped before their
// next instruction; StartContainer lets them go. Processes and files come from the archives,
// everything else from the configurations, and where the two contradict each other nothing
// is made: ErrInvalid. So it is with names that do not match one to one. A sandbox of the same attempt is
// ErrExists. On an error nothing is left.
func (m *Manager) RestorePod(ctx context.Context, dir string, config *runtime.PodSandboxConfig, handler string,
	configs []*runtime.ContainerConfig, options map[string]string,
) (id pod.ID, restored []Restored, err error) {
	if err := errors.Join(noOptions(options), m.CheckHandler(handler), uniqueNames(configs)); err != nil {
		return "", nil, err
	}
	sb := pod.Sandbox{Config: pod.SandboxConfig{PodSandboxConfig: config}, Handler: handler}
	for _, c := range configs {
		if err := m.checkpointable(sb, pod.Container{Config: pod.ContainerConfig{ContainerConfig: c}, Handler: handler}); err != nil {
			return "", nil, err
		}
	}
	if m.knowsSandbox(sb) {
		return "", nil, fmt.Errorf("sandbox %s: %w", sb.Key(), pod.ErrExists)
	}
	ctx, op := m.ops.begin(ctx, "restore_pod", subject(sb), "", telemetry.SandboxAttributes(sb))
	defer op.end(&err)
	ctx, cancel := context.WithTimeout(ctx, m.config.createTimeout())
	defer cancel()

	var criu string
	if err := op.step(ctx, "criu", func(ctx context.Context) (err error) {
		criu, err = m.criu.Usable(ctx, m.config.CriuPath)
		return err
	}); err != nil {
		return "", nil, err
	}
	var snapshots map[string]*checkpoint.Snapshot
	if err := op.step(ctx, "read", func(ctx context.Context) (err error) {
		if snapshots, err = checkpoint.Open(ctx, dir); err != nil {
			return err
		}
		return sameNames(snapshots, configs)
	}); err != nil {
		checkpoint.CloseAll(snapshots)
		return "", nil, err
	}
	defer checkpoint.CloseAll(snapshots)

	// What is made from here on is made to its end and then, if need be, removed: a
	// sandbox whose making goes on behind a request that has ended could not be.
	op.enter("sandbox")
	if id, err = m.RunSandbox(context.WithoutCancel(ctx), config, handler); err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			op.enter("undo")
			ctx, cancel := m.detached(ctx, undoBound)
			defer cancel()
			err = errors.Join(err, ignoreGone(m.RemoveSandbox(ctx, string(id))))
			id, restored = "", nil
		}
	}()
	op.enter("containers")
	for _, c := range configs {
		if err := context.Cause(ctx); err != nil {
			return id, nil, err
		}
		name := c.GetMetadata().GetName()
		made, err := m.makeContainer(context.WithoutCancel(ctx), string(id), c, &restoring{snapshot: snapshots[name], criu: criu})
		if err != nil {
			return id, nil, fmt.Errorf("restore container %s: %w", name, err)
		}
		restored = append(restored, Restored{Name: name, ID: made})
	}
	return id, restored, context.Cause(ctx)
}

func uniqueNames(configs []*runtime.ContainerConfig) error {
	names := map[string]bool{}
	for _, c := range configs {
		name := c.GetMetadata().GetName()
		if name == "" || names[name] {
			return fmt.Errorf("%w: container_configs: a container has no name, or %q is there twice", pod.ErrInvalid, name)
		}
		names[name] = true
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: container_configs is empty", pod.ErrInvalid)
	}
	return nil
}

// sameNames refuses names that are only in the checkpoint or only in the request.
func sameNames(snapshots map[string]*checkpoint.Snapshot, configs []*runtime.ContainerConfig) error {
	var asked []string
	for _, c := range configs {
		asked = append(asked, c.GetMetadata().GetName())
	}
	slices.Sort(asked)
	if have := slices.Sorted(maps.Keys(snapshots)); !slices.Equal(have, asked) {
		return fmt.Errorf("%w: the checkpoint is of the containers %.500q, the request of %.500q", pod.ErrInvalid, have, asked)
	}
	return nil
}

// knowsSandbox: there is, or is being made, a sandbox of the same attempt.
func (m *Manager) knowsSandbox(sb pod.Sandbox) bool {
	m.index.mu.RLock()
	defer m.index.mu.RUnlock()
	_, known := m.index.sandboxKeys[sb.Key()]
	return known || m.index.sandboxFlights[sb.Key()] != nil
}

// restoring is what makes the creation of a container its restoration.
type restoring struct {
	snapshot *checkpoint.Snapshot
	criu     string
	work     checkpoint.Work // beside its writable layer, removed with that
}

// launch is the part of the launcher's requests.
func (r *restoring) launch() *launch.Criu {
	return &launch.Criu{Path: r.criu, Images: r.work.Images(), Work: r.work.Criu()}
}

// unpackSnapshot takes images and files out of the archive, once the root file system is there.
func (p *plan) unpackSnapshot(ctx context.Context) error {
	m, r := p.manager, p.restore
	work, err := m.images.Scratch(string(p.container.ID), "checkpoint")
	if err != nil {
		return err
	}
	r.work = checkpoint.Work(work)
	if err := os.Mkdir(r.launch().Work, 0o700); err != nil {
		return err
	}
	deleted, err := r.snapshot.Unpack(ctx, r.work)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	changes, err := os.Open(r.work.Changes())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer changes.Close()
	info, err := changes.Stat()
	if err != nil {
		return err
	}
	return m.images.ApplyChanges(ctx, string(p.container.ID), changes, deleted, changesLimit(info.Size()))
}

// sameImage refuses a checkpoint of a container of another image: its files are
// changes of that one.
func (p *plan) sameImage() error {
	if was := p.restore.snapshot.Image(); was != p.image.ID {
		return fmt.Errorf("%w: the checkpoint is of image %.100q, the request's is %s", pod.ErrInvalid, was, p.image.ID)
	}
	return nil
}

// changesLimit: an archive's files are no larger than the archive, and each has a header.
func changesLimit(size int64) image.ChangesLimit {
	return image.ChangesLimit{Bytes: size, Entries: size/512 + checkpoint.MaxParts}
}

// verifyRestored looks at the processes that criu has made of an archive, before any of
// them runs: they must be as confined as the request says. Processes get the request's oom_score_adj and the
// pod's namespaces its hostname and sysctls again.
func (p *plan) verifyRestored(context.Context) error {
	pids, err := p.manager.cgroups.Procs(p.container.Cgroup)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("%w: criu has restored no process", pod.ErrInvalid)
	}
	for _, pid := range pids {
		if err := checkpoint.Confined(p.spec, pid); err != nil {
			return fmt.Errorf("%w: a process of the checkpoint is not as the request confines it: %w", pod.ErrInvalid, err)
		}
		if score := p.spec.Process.OOMScoreAdj; score != nil {
			path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
			if err := os.WriteFile(path, []byte(strconv.Itoa(*score)), 0); err != nil {
				return fmt.Errorf("set oom_score_adj of restored process %d: %w", pid, err)
			}
		}
	}
	if err := p.manager.network.ConfigureNamespaces(namespaceRequest(p.sandbox)); err != nil {
		return err
	}
	return os.RemoveAll(string(p.restore.work)) // a copy of the processes' memory, which nobody needs any more
}
