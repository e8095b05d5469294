package lifecycle

import (
	"context"
	"errors"
	"fmt"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

func hasVolumes(c pod.Container) bool {
	for _, m := range c.Config.GetMounts() {
		if m.GetImage().GetImage() != "" {
			return true
		}
	}
	return false
}

// mountVolumes mounts the images that the request asks for as volumes and enters them
// as sources of its mounts. They belong to the container: removeVolumes takes them
// away, whether or not this was ever called.
func (p *plan) mountVolumes(ctx context.Context) error {
	for i, m := range p.container.Config.GetMounts() {
		if m.GetImage().GetImage() == "" {
			continue
		}
		source, ref, err := p.mountVolume(ctx, i, m)
		if err != nil {
			return fmt.Errorf("%w: image %q at %s: %w", pod.ErrImageVolumeMountFailed, m.GetImage().GetImage(), m.GetContainerPath(), err)
		}
		p.input.Sources[i] = spec.Source{Path: source}
		p.container.Mounts[i] = pod.Mount{ContainerPath: m.GetContainerPath(), Image: ref}
	}
	return nil
}

func (p *plan) mountVolume(ctx context.Context, i int, m *runtime.Mount) (source, ref string, err error) {
	img, err := p.manager.images.Status(ctx, m.GetImage().GetImage())
	if err != nil {
		return "", "", err
	}
	request := rootfsRequest(p.sandbox, *p.container)
	request.ID, request.ImageID = image.VolumeID(string(p.container.ID), i), img.ID
	volume, err := p.manager.images.CreateVolume(ctx, request)
	if err != nil {
		return "", "", err
	}
	source, err = volume.SubPath(m.GetImageSubPath())
	return source, img.ID, err
}

// removeVolumes takes the container's image volumes away. Absence is success.
func (m *Manager) removeVolumes(ctx context.Context, c pod.Container) error {
	var errs []error
	for i, mount := range c.Config.GetMounts() {
		if mount.GetImage().GetImage() != "" {
			errs = append(errs, m.images.RemoveRootfs(ctx, image.VolumeID(string(c.ID), i)))
		}
	}
	return errors.Join(errs...)
}
