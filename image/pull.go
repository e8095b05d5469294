package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/storage"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// PullRequest asks for one image.
type PullRequest struct {
	// Ref is what the pod's author wrote.
	Ref string
	// Auth is what the request brought; nil for none.
	Auth *Auth
	// Namespace of the pod, for the signature policy; empty is fine.
	Namespace string
}

// pull is one pull at work.
type pull struct {
	*Store
	req   PullRequest
	since time.Time
	// progress grows with every sign of life; the watchdog reads it.
	progress     atomic.Int64
	phase        atomic.Pointer[string] // the step that runs
	bytes, total atomic.Int64           // of compressed layers
}

// Pull fetches an image, or confirms that what is stored is still what the reference
// means. Concurrent pulls of one reference with equal credentials and policy share
// one; each caller still ends with its own ctx, and the shared work ends when all
// have left. Errors are *Failure.
func (s *Store) Pull(ctx context.Context, req PullRequest) (img Image, err error) {
	ctx, span := telemetry.Start(ctx, "image.pull", attribute.String("vitrine.image.ref", req.Ref))
	defer span.End(&err)
	key := fmt.Sprintf("%s\x00%s\x00%s", req.Ref, req.Namespace, req.Auth.key())
	img, leader, err := s.join(ctx, key, &pull{Store: s, req: req, since: time.Now()})
	if err != nil {
		err = failure(req.Ref, err, req.Auth.secrets())
		span.Set(attribute.String("error.type", errorClass(err)))
		return Image{}, err
	}
	span.Set(attribute.String("container.image.id", img.ID), attribute.StringSlice("container.image.repo_digests", img.RepoDigests),
		attribute.Bool("vitrine.image.shared_pull", !leader))
	if arch := img.Config.Architecture; arch != "" && arch != runtime.GOARCH {
		span.Set(telemetry.KeyImageForeign.String(img.Config.OS + "/" + arch))
	}
	return img, nil
}

func errorClass(err error) string {
	var f *Failure
	if errors.As(err, &f) {
		return f.class
	}
	return "other"
}

// fail makes an error of a step fit for spans and callers.
func (p *pull) fail(err error) error { return failure(p.req.Ref, err, p.req.Auth.secrets()) }

// phased is step for the parts that follow each other, which Pulls shows.
func (p *pull) phased(ctx context.Context, name string, do func(context.Context, *telemetry.Span) error) error {
	p.phase.Store(&name)
	return p.step(ctx, name, do)
}

// step runs one named part of the pull under its span.
func (p *pull) step(ctx context.Context, name string, do func(context.Context, *telemetry.Span) error) (err error) {
	ctx, span := telemetry.Start(ctx, name)
	defer span.End(&err)
	err = do(ctx, span)
	p.progress.Add(1)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // "context canceled" says less than why
	}
	return p.fail(err)
}

func (p *pull) run(ctx context.Context) (img Image, err error) {
	var release func()
	if err := p.phased(ctx, "image.queue", func(ctx context.Context, _ *telemetry.Span) (err error) {
		release, err = p.flights.acquire(ctx, p.config.MaxPulls)
		return err
	}); err != nil {
		return Image{}, err
	}
	defer release()
	ctx, stop := p.watch(ctx)
	defer stop()

	var names []reference.Named
	if err := p.phased(ctx, "image.resolve", func(ctx context.Context, span *telemetry.Span) (err error) {
		p.registries.reread(p.config.RegistriesConf)
		names, err = candidates(p.system(), p.req.Ref)
		span.Set(attribute.Int("vitrine.image.candidates", len(names)))
		return err
	}); err != nil {
		return Image{}, err
	}
	for i, named := range names {
		img, err = p.attempts(ctx, named)
		if err == nil || i == len(names)-1 || ctx.Err() != nil || !errors.Is(err, pod.ErrNotFound) && !errors.Is(err, pod.ErrDenied) && !errors.Is(err, pod.ErrRegistryUnavailable) {
			break
		}
	}
	return img, err
}

// maxAttempts bounds how often a pull starts over because a layer that it counted on
// was removed by someone else meanwhile.
const maxAttempts = 3

func (p *pull) attempts(ctx context.Context, named reference.Named) (img Image, err error) {
	for range maxAttempts {
		img, err = p.attempt(ctx, named)
		var lost *lostLayer
		if err == nil || !errors.As(err, &lost) {
			break
		}
	}
	return img, p.fail(err)
}

// lostLayer says that a layer disappeared under a pull.
type lostLayer struct{ error }

func (p *pull) attempt(ctx context.Context, named reference.Named) (img Image, err error) {
	sys := p.system()
	if err := p.req.Auth.apply(sys, named); err != nil {
		return Image{}, err
	}
	src, err := docker.NewReference(named)
	if err != nil {
		return Image{}, fmt.Errorf("%w: image reference %q: %s", pod.ErrInvalid, named, err)
	}
	var id string
	if !p.config.PlainPull {
		id, err = p.staged(ctx, sys, src, named)
	}
	if p.config.PlainPull || errors.Is(err, errUncovered) {
		id, err = p.plain(ctx, sys, src, named)
	}
	if errors.Is(err, storage.ErrLayerUnknown) || errors.Is(err, storage.ErrParentUnknown) {
		return Image{}, &lostLayer{err}
	}
	if err != nil {
		return Image{}, err
	}
	if err := p.fresh(); err != nil {
		return Image{}, err
	}
	img, found := p.catalog.byID(id)
	if !found {
		return Image{}, fmt.Errorf("%w: image %s disappeared after it was pulled", pod.ErrUnavailable, id)
	}
	return img, nil
}

// watch ends the returned context when the pull makes no progress for the
// configured time.
func (p *pull) watch(ctx context.Context) (context.Context, func()) {
	limit := p.config.StallTimeout
	if limit < 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() { // waited for by the function returned
		defer close(done)
		tick := time.NewTicker(limit / 4)
		defer tick.Stop()
		last, since := int64(-1), time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if n := p.progress.Load(); n != last {
					last, since = n, now
				} else if now.Sub(since) >= limit {
					cancel(fmt.Errorf("%w: no progress for %s", errStalled, limit))
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// touch is called for every sign of life.
func (p *pull) touch() { p.progress.Add(1) }
