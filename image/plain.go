package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/signature"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// plain pulls with containers/image alone: what the concurrent path does not cover
// goes here, and its results are the measure of the other's.
func (p *pull) plain(ctx context.Context, sys *types.SystemContext, src types.ImageReference, named reference.Named) (id string, err error) {
	var policy *signature.Policy
	if err := p.phased(ctx, "image.policy", func(context.Context, *telemetry.Span) (err error) {
		policy, err = p.policy(p.req.Namespace)
		return err
	}); err != nil {
		return "", err
	}
	err = p.phased(ctx, "image.copy", func(ctx context.Context, _ *telemetry.Span) (err error) {
		id, err = p.copyImage(ctx, sys, src, named, policy, p.narrate)
		return err
	})
	if err != nil {
		return "", err
	}
	// The library decides which layers are made, so there is no journal of them.
	return id, p.phased(ctx, "image.sync", func(ctx context.Context, _ *telemetry.Span) error {
		return errors.Join(p.fresh(), p.settleUsage(ctx), syncFS(p.config.Root))
	})
}

// copyImage runs containers/image's copy into the store and returns the image's ID.
// report hears how it goes, until the copy has ended.
func (p *pull) copyImage(ctx context.Context, sys *types.SystemContext, src types.ImageReference, named reference.Named, policy *signature.Policy,
	report func(context.Context, <-chan types.ProgressProperties)) (string, error) {
	if err := os.MkdirAll(sys.BigFilesTemporaryDir, 0o700); err != nil {
		return "", fmt.Errorf("make directory for big files: %w", err)
	}
	policyContext, err := signature.NewPolicyContext(policy)
	if err != nil {
		return "", fmt.Errorf("use signature policy: %w", err)
	}
	defer policyContext.Destroy()
	dest, err := istorage.Transport.NewStoreReference(p.storage, named, "")
	if err != nil {
		return "", fmt.Errorf("name stored image: %w", err)
	}
	progress, done := make(chan types.ProgressProperties), make(chan struct{})
	go func() { // ends when progress is closed, below
		defer close(done)
		report(ctx, progress)
	}()
	defer func() { close(progress); <-done }()
	var stored types.ImageReference
	if _, err := copy.Image(ctx, policyContext, dest, src, &copy.Options{
		SourceCtx:               sys,
		DestinationCtx:          sys,
		Progress:                progress,
		ProgressInterval:        time.Second,
		MaxParallelDownloads:    uint(p.config.MaxLayers),
		ReportResolvedReference: &stored,
	}); err != nil {
		return "", err
	}
	_, img, err := istorage.ResolveReference(stored)
	if err != nil {
		return "", fmt.Errorf("find stored image: %w", err)
	}
	return img.ID, nil
}

// listen takes the library's progress reports for signs of life.
func (p *pull) listen(_ context.Context, progress <-chan types.ProgressProperties) {
	for range progress {
		p.touch()
	}
}

// narrate turns the library's progress reports into spans and signs of life.
func (p *pull) narrate(ctx context.Context, progress <-chan types.ProgressProperties) {
	spans := map[string]*telemetry.Span{}
	for report := range progress {
		p.touch()
		key := report.Artifact.Digest.String()
		switch report.Event {
		case types.ProgressEventNewArtifact:
			_, spans[key] = telemetry.Start(ctx, "image.layer", attribute.String("vitrine.image.layer.digest", key), attribute.Int64("vitrine.image.layer.size", report.Artifact.Size))
		case types.ProgressEventDone, types.ProgressEventSkipped:
			spans[key].Set(attribute.Bool("vitrine.image.cached", report.Event == types.ProgressEventSkipped))
			spans[key].End(nil)
			delete(spans, key)
		}
	}
	for _, span := range spans {
		span.End(nil)
	}
}
