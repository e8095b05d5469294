package image

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.podman.io/storage"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Remove removes the image that ref names, with all its tags and the layers that no
// other image has. An absent image is success; one that a root file system uses is
// pod.ErrState and stays.
func (s *Store) Remove(ctx context.Context, ref string) (err error) {
	ctx, span := telemetry.Start(ctx, "image.remove", attribute.String("container.image.name", ref))
	defer span.End(&err)
	img, err := s.Status(ctx, ref)
	if errors.Is(err, pod.ErrNotFound) {
		id, ok := imageID(ref)
		if !ok || !s.storage.Exists(id) {
			return nil
		}
		img, err = Image{ID: id}, nil // damaged: stored, but not listed
	}
	if err != nil {
		return fmt.Errorf("remove image %q: %w", ref, err)
	}
	span.Set(attribute.String("container.image.id", img.ID))
	release, err := s.rootfs.claimForRemoval(img.ID)
	if err != nil {
		return fmt.Errorf("remove image %q: %w", ref, err)
	}
	defer release()
	_, err = s.storage.DeleteImage(img.ID, true)
	switch {
	case errors.Is(err, storage.ErrImageUnknown), errors.Is(err, storage.ErrNotAnImage): // somebody else was quicker
		err = nil
	case errors.Is(err, storage.ErrImageUsedByContainer), errors.Is(err, storage.ErrLayerUsedByContainer):
		err = fmt.Errorf("%w: a container uses it", pod.ErrState)
	}
	if err != nil {
		return fmt.Errorf("remove image %q: %w", ref, err)
	}
	if err := errors.Join(s.dropOrphans(), s.settleUsage(ctx)); err != nil {
		return fmt.Errorf("remove image %q: %w", ref, err)
	}
	return s.fresh()
}
