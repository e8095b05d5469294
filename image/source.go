package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"

	"github.com/vitrine-runtime/vitrine/pod"
)

// source is one image in a registry, read once: what has been fetched and verified is
// replayed to containers/image when it records the image.
type source struct {
	types.ImageSource
	ref types.ImageReference
	sys *types.SystemContext

	// The manifest that the reference names, and the one for this platform; they are
	// the same unless the first is an index.
	top, mine         []byte
	topType, mineType string
	instance          *digest.Digest // of mine; nil when top is no index
	parsed            manifest.Manifest
	blobs             map[digest.Digest][]byte // the configuration
}

// openSource pings the registry (its mirrors first, as registries.conf says), logs in
// and fetches the manifests.
func openSource(ctx context.Context, sys *types.SystemContext, ref types.ImageReference) (_ *source, err error) {
	raw, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	s := &source{ImageSource: raw, ref: ref, sys: sys, blobs: map[digest.Digest][]byte{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, raw.Close())
		}
	}()
	if s.top, s.topType, err = image.UnparsedInstance(raw, nil).Manifest(ctx); err != nil {
		return nil, err
	}
	s.mine, s.mineType = s.top, s.topType
	if manifest.MIMETypeIsMultiImage(s.topType) {
		list, err := manifest.ListFromBlob(s.top, s.topType)
		if err != nil {
			return nil, fmt.Errorf("read image index: %w", err)
		}
		chosen, err := list.ChooseInstance(sys)
		if err != nil {
			return nil, fmt.Errorf("%w: no image of the index is for this machine: %w", pod.ErrNotFound, err)
		}
		s.instance = &chosen
		if s.mine, s.mineType, err = image.UnparsedInstance(raw, &chosen).Manifest(ctx); err != nil {
			return nil, err
		}
	}
	if s.parsed, err = manifest.FromBlob(s.mine, s.mineType); err != nil {
		return nil, fmt.Errorf("read image manifest: %w", err)
	}
	return s, nil
}

// unparsed is the image for the signature policy, straight from the registry: the
// policy must see the source's own signatures, of every format.
func (s *source) unparsed() types.UnparsedImage {
	return image.UnparsedInstance(s.ImageSource, s.instance)
}

// maxConfig bounds an image's configuration, in bytes; containers/image has the same bound.
const maxConfig = 4 << 20

// fetchConfig reads and verifies the image's configuration.
func (s *source) fetchConfig(ctx context.Context) ([]byte, error) {
	info := s.parsed.ConfigInfo()
	if info.Size > maxConfig {
		return nil, fmt.Errorf("%w: image configuration of %d bytes, at most %d are accepted", pod.ErrExhausted, info.Size, maxConfig)
	}
	body, _, err := s.ImageSource.GetBlob(ctx, info, none.NoCache)
	if err != nil {
		return nil, fmt.Errorf("fetch image configuration: %w", err)
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("fetch image configuration: %w", err)
	}
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("%w: image configuration of more than %d bytes", pod.ErrExhausted, maxConfig)
	}
	if got := info.Digest.Algorithm().FromBytes(raw); got != info.Digest {
		return nil, fmt.Errorf("%w: configuration %s arrived as %s", errDigest, info.Digest, got)
	}
	s.blobs[info.Digest] = raw
	return raw, nil
}

// replay is a reference whose source is s.
func (s *source) replay() types.ImageReference { return replayed{s.ref, s} }

type replayed struct {
	types.ImageReference
	source *source
}

// NewImageSource returns the open source; closing it does nothing.
func (r replayed) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return replaySource{r.source}, nil
}

// NewImage reads the image through the open source.
func (r replayed) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return image.FromSource(ctx, sys, replaySource{r.source})
}

type replaySource struct{ *source }

func (s replaySource) Reference() types.ImageReference { return s.ref }

func (s replaySource) Close() error { return nil }

func (s replaySource) GetManifest(ctx context.Context, instance *digest.Digest) ([]byte, string, error) {
	switch {
	case instance == nil:
		return s.top, s.topType, nil
	case s.instance != nil && *instance == *s.instance:
		return s.mine, s.mineType, nil
	}
	return s.ImageSource.GetManifest(ctx, instance)
}

func (s replaySource) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if raw, known := s.blobs[info.Digest]; known {
		return io.NopCloser(bytes.NewReader(raw)), int64(len(raw)), nil
	}
	return s.ImageSource.GetBlob(ctx, info, cache)
}

// GetSignatures returns none: the policy has seen them.
func (s replaySource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, nil
}
