package nri

import (
	"context"
	"fmt"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// tell runs one event: no plugin joins meanwhile, and no other event is told.
func (p *Plugins) tell(ctx context.Context, event string, do func(context.Context) error) (err error) {
	ctx, span := telemetry.Start(ctx, "nri.event", telemetry.KeyNRIEvent.String(event))
	defer span.End(&err)
	block := p.runtime.BlockPluginSync()
	defer block.Unblock()
	p.turn.Lock()
	defer p.turn.Unlock()
	p.telling(ctx)
	defer p.telling(p.ctx)
	if err := do(ctx); err != nil {
		return fmt.Errorf("plugins on %s: %w", event, err)
	}
	return nil
}

func (p *Plugins) telling(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.event = ctx
}

// RunSandbox tells of a pod that is complete but for its record.
func (p *Plugins) RunSandbox(ctx context.Context, sb pod.Sandbox) error {
	return p.tell(ctx, "RunPodSandbox", func(ctx context.Context) error {
		told := sandboxOf(sb)
		p.arrive(sb.ID, arriving{sandbox: told})
		return p.runtime.RunPodSandbox(ctx, &adaptation.RunPodSandboxRequest{Pod: told})
	})
}

// UpdateSandbox tells that kubelet changes the limits of a pod.
func (p *Plugins) UpdateSandbox(ctx context.Context, sb pod.Sandbox, overhead, res *runtime.LinuxContainerResources) error {
	return p.tell(ctx, "UpdatePodSandbox", func(ctx context.Context) error {
		_, err := p.runtime.UpdatePodSandbox(ctx, &adaptation.UpdatePodSandboxRequest{
			Pod: sandboxOf(sb), OverheadLinuxResources: fromCRI(overhead), LinuxResources: fromCRI(res),
		})
		return err
	})
}

// PostUpdateSandbox tells that it has done so.
func (p *Plugins) PostUpdateSandbox(ctx context.Context, sb pod.Sandbox) error {
	return p.tell(ctx, "PostUpdatePodSandbox", func(ctx context.Context) error {
		return p.runtime.PostUpdatePodSandbox(ctx, &adaptation.PostUpdatePodSandboxRequest{Pod: sandboxOf(sb)})
	})
}

// StopSandbox tells of a pod whose containers have ended.
func (p *Plugins) StopSandbox(ctx context.Context, sb pod.Sandbox) error {
	return p.tell(ctx, "StopPodSandbox", func(ctx context.Context) error {
		return p.runtime.StopPodSandbox(ctx, &adaptation.StopPodSandboxRequest{Pod: sandboxOf(sb)})
	})
}

// RemoveSandbox tells of a pod that is gone, or that was not finished after RunSandbox.
func (p *Plugins) RemoveSandbox(ctx context.Context, sb pod.Sandbox) error {
	return p.tell(ctx, "RemovePodSandbox", func(ctx context.Context) error {
		p.settled(sb.ID)
		return p.runtime.RemovePodSandbox(ctx, &adaptation.RemovePodSandboxRequest{Pod: sandboxOf(sb)})
	})
}

// CreateContainer asks about a container before it is made and applies the answers to
// its specification. It returns the limits that plugins have changed, nil for none. From
// here on the container is known to plugins: RemoveContainer must follow in the end.
func (p *Plugins) CreateContainer(ctx context.Context, sb pod.Sandbox, c pod.Container, s *specs.Spec) (*runtime.LinuxContainerResources, error) {
	var answer *adaptation.CreateContainerResponse
	if err := p.tell(ctx, "CreateContainer", func(ctx context.Context) (err error) {
		answer, err = p.runtime.CreateContainer(ctx, &adaptation.CreateContainerRequest{Pod: sandboxOf(sb), Container: containerOf(c, s)})
		if err == nil {
			err = p.apply(s, answer.GetAdjust())
		}
		p.arrive(c.ID, arriving{container: containerOf(c, s)}) // as adjusted
		return err
	}); err != nil {
		return nil, err
	}
	if err := p.perform(ctx, answer.GetUpdate(), answer.GetEvict()); err != nil {
		return nil, err
	}
	return toCRI(answer.GetAdjust().GetLinux().GetResources())
}

// PostCreateContainer tells of a container that has been made.
func (p *Plugins) PostCreateContainer(ctx context.Context, sb pod.Sandbox, c pod.Container) error {
	return p.tell(ctx, "PostCreateContainer", func(ctx context.Context) error {
		p.settled(c.ID)
		return p.runtime.PostCreateContainer(ctx, &adaptation.PostCreateContainerRequest{Pod: sandboxOf(sb), Container: p.known(c)})
	})
}

// StartContainer tells of a container about to be started.
func (p *Plugins) StartContainer(ctx context.Context, sb pod.Sandbox, c pod.Container) error {
	return p.tell(ctx, "StartContainer", func(ctx context.Context) error {
		return p.runtime.StartContainer(ctx, &adaptation.StartContainerRequest{Pod: sandboxOf(sb), Container: p.known(c)})
	})
}

// PostStartContainer tells that it runs.
func (p *Plugins) PostStartContainer(ctx context.Context, sb pod.Sandbox, c pod.Container) error {
	return p.tell(ctx, "PostStartContainer", func(ctx context.Context) error {
		return p.runtime.PostStartContainer(ctx, &adaptation.PostStartContainerRequest{Pod: sandboxOf(sb), Container: p.known(c)})
	})
}

// UpdateContainer asks about new limits of a container and returns those to apply:
// res, with what plugins have changed of it.
func (p *Plugins) UpdateContainer(ctx context.Context, sb pod.Sandbox, c pod.Container, res *runtime.LinuxContainerResources) (*runtime.LinuxContainerResources, error) {
	var answer *adaptation.UpdateContainerResponse
	if err := p.tell(ctx, "UpdateContainer", func(ctx context.Context) (err error) {
		answer, err = p.runtime.UpdateContainer(ctx, &adaptation.UpdateContainerRequest{
			Pod: sandboxOf(sb), Container: p.known(c), LinuxResources: fromCRI(res),
		})
		return err
	}); err != nil {
		return nil, err
	}
	var others []*adaptation.ContainerUpdate
	for _, u := range answer.GetUpdate() {
		if u == nil {
			continue // in place of this container's, when no plugin had anything to change
		}
		if u.GetContainerId() != string(c.ID) {
			others = append(others, u)
			continue
		}
		changed, err := toCRI(u.GetLinux().GetResources())
		if err != nil {
			return nil, err
		}
		changed.OomScoreAdj = res.GetOomScoreAdj() // which plugins cannot update
		res = changed
	}
	return res, p.perform(ctx, others, answer.GetEvict())
}

// PostUpdateContainer tells that the limits are in force.
func (p *Plugins) PostUpdateContainer(ctx context.Context, sb pod.Sandbox, c pod.Container) error {
	return p.tell(ctx, "PostUpdateContainer", func(ctx context.Context) error {
		return p.runtime.PostUpdateContainer(ctx, &adaptation.PostUpdateContainerRequest{Pod: sandboxOf(sb), Container: p.known(c)})
	})
}

// StopContainer tells of a container that has ended, of itself or by request.
func (p *Plugins) StopContainer(ctx context.Context, sb pod.Sandbox, c pod.Container) error {
	var answer *adaptation.StopContainerResponse
	if err := p.tell(ctx, "StopContainer", func(ctx context.Context) (err error) {
		answer, err = p.runtime.StopContainer(ctx, &adaptation.StopContainerRequest{Pod: sandboxOf(sb), Container: p.known(c)})
		return err
	}); err != nil {
		return err
	}
	return p.perform(ctx, answer.GetUpdate(), nil)
}

// RemoveContainer tells of a container that is gone, or that was not finished after
// CreateContainer.
func (p *Plugins) RemoveContainer(ctx context.Context, sb pod.Sandbox, c pod.Container) error {
	return p.tell(ctx, "RemoveContainer", func(ctx context.Context) error {
		p.settled(c.ID)
		return p.runtime.RemoveContainer(ctx, &adaptation.RemoveContainerRequest{Pod: sandboxOf(sb), Container: containerOf(c, nil)})
	})
}

// known is a container that has been made, in the plugins' words.
func (p *Plugins) known(c pod.Container) *adaptation.Container {
	if p.host == nil {
		return containerOf(c, nil) // nobody listens yet
	}
	return containerOf(c, p.specification(c.ID))
}
