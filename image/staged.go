package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptrace"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel/attribute"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/chunked/toc"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// maxLayers bounds the layers of an image. Docker's limit is 127; a mount's options
// must hold them all (mountOverlay).
const maxLayers = 150

// staged pulls with all layers at once: each flows from the network through the
// decompressor into its files and waits only to be linked on top of its parent. Then
// containers/image, which finds every layer by its ID, records the image. What this
// path does not cover is errUncovered.
func (p *pull) staged(ctx context.Context, sys *types.SystemContext, ref types.ImageReference, named reference.Named) (id string, err error) {
	var src *source
	if err := p.phased(ctx, "image.manifest", func(ctx context.Context, span *telemetry.Span) (err error) {
		following, route := follow(ctx, p.touch)
		src, err = openSource(following, sys, ref)
		err = p.refusal(ctx, named, route, err)
		route.end(span, p.fail(err))
		if err == nil {
			span.Set(attribute.String("oci.manifest.digest", digest.FromBytes(src.mine).String()), attribute.String("vitrine.image.manifest.media_type", src.mineType))
		}
		return err
	}); err != nil {
		return "", err
	}
	defer src.Close()
	if err := p.phased(ctx, "image.policy", func(ctx context.Context, _ *telemetry.Span) error {
		// Not followed: signatures may come from a web server, whose requests look like those for a token.
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: p.touch})
		return p.allowed(ctx, src)
	}); err != nil {
		return "", err
	}
	if id, done := p.present(src, named); done {
		return id, nil
	}
	var layers []layerPlan
	if err := p.phased(ctx, "image.config", func(ctx context.Context, span *telemetry.Span) (err error) {
		following, route := follow(ctx, p.touch)
		layers, err = p.plan(following, src)
		err = p.refusal(ctx, named, route, err)
		route.end(span, p.fail(err))
		return err
	}); err != nil {
		return "", err
	}
	if err := p.fetchLayers(ctx, src, layers); err != nil {
		return "", err
	}
	err = p.phased(ctx, "image.record", func(ctx context.Context, _ *telemetry.Span) (err error) {
		accepted := &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}} // by the step above
		if id, err = p.copyImage(ctx, sys, src.replay(), named, accepted, p.listen); err != nil {
			return err
		}
		return p.fresh()
	})
	return id, err
}

// allowed asks the signature policy.
func (p *pull) allowed(ctx context.Context, src *source) (err error) {
	policy, err := p.policy(p.req.Namespace)
	if err != nil {
		return err
	}
	decision, err := signature.NewPolicyContext(policy)
	if err != nil {
		return fmt.Errorf("use signature policy: %w", err)
	}
	defer func() { err = errors.Join(err, decision.Destroy()) }()
	if allowed, err := decision.IsRunningImageAllowed(ctx, src.unparsed()); !allowed || err != nil {
		return fmt.Errorf("%w: %w", pod.ErrSignatureValidationFailed, err)
	}
	return nil
}

// present reports whether exactly this image is stored under exactly this name.
func (p *pull) present(src *source, named reference.Named) (id string, done bool) {
	if p.fresh() != nil {
		return "", false
	}
	img, found := p.catalog.byName(named.String())
	if !found || img.ID != src.parsed.ConfigInfo().Digest.Encoded() {
		return "", false
	}
	for _, d := range []digest.Digest{digest.FromBytes(src.top), digest.FromBytes(src.mine)} {
		if _, found := p.catalog.byName(named.Name() + "@" + d.String()); !found {
			return "", false
		}
	}
	return img.ID, true
}

// layerPlan is one layer to be made.
type layerPlan struct {
	info   types.BlobInfo
	diffID digest.Digest
	// id and parent are IDs of the layer store; parent is empty for the first.
	id, parent string
}

// plan reads the image's configuration and says which layers are needed.
func (p *pull) plan(ctx context.Context, src *source) ([]layerPlan, error) {
	switch src.parsed.(type) {
	case *manifest.OCI1, *manifest.Schema2:
	default:
		return nil, fmt.Errorf("%w: manifest of type %s", errUncovered, src.mineType)
	}
	infos := src.parsed.LayerInfos()
	if len(infos) > maxLayers {
		return nil, fmt.Errorf("%w: image of %d layers, at most %d are accepted", pod.ErrExhausted, len(infos), maxLayers)
	}
	if t := src.parsed.ConfigInfo().MediaType; t != v1.MediaTypeImageConfig && t != manifest.DockerV2Schema2ConfigMediaType {
		return nil, fmt.Errorf("%w: configuration of type %s", errUncovered, t)
	}
	raw, err := src.fetchConfig(ctx)
	if err != nil {
		return nil, err
	}
	var config v1.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("%w: read image configuration: %w", pod.ErrInvalid, err)
	}
	if len(config.RootFS.DiffIDs) != len(infos) {
		return nil, fmt.Errorf("%w: %d layers and %d diff ids", errUncovered, len(infos), len(config.RootFS.DiffIDs))
	}
	plans, parent := make([]layerPlan, len(infos)), ""
	for i, info := range infos {
		diffID := config.RootFS.DiffIDs[i]
		if info.EmptyLayer || len(info.URLs) > 0 || strings.HasSuffix(info.MediaType, "+encrypted") {
			return nil, fmt.Errorf("%w: layer of type %s", errUncovered, info.MediaType)
		}
		for _, d := range []digest.Digest{info.Digest, diffID} {
			if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
				return nil, fmt.Errorf("%w: layer digest %q", errUncovered, d)
			}
		}
		plans[i] = layerPlan{info: info.BlobInfo, diffID: diffID, id: chainID(parent, diffID), parent: parent}
		parent = plans[i].id
	}
	if p.config.PartialPulls && p.chunked(infos, plans) {
		return nil, fmt.Errorf("%w: layer that can be fetched in part", errUncovered)
	}
	return plans, nil
}

// chunked says that a layer which is not there yet has a table of its files, so that
// containers/image can fetch only those that are missing.
func (p *pull) chunked(infos []manifest.LayerInfo, plans []layerPlan) bool {
	for i, info := range infos {
		table, err := toc.GetTOCDigest(info.Annotations)
		if err != nil || table == nil {
			continue
		}
		if _, err := p.storage.Layer(plans[i].id); err != nil {
			return true
		}
	}
	return false
}

// chainID is containers/image's ID of a layer on top of its parent.
func chainID(parent string, diffID digest.Digest) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return digest.FromString(parent + "+" + diffID.Encoded()).Encoded()
}
