package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// layerFlights keeps two pulls from making one layer twice at the same time.
type layerFlights struct {
	mu     sync.Mutex // guards active
	active map[string]chan struct{}
}

// claim returns when the layer is the caller's to make; release hands it on.
func (l *layerFlights) claim(ctx context.Context, id string) (release func(), err error) {
	for {
		l.mu.Lock()
		busy, taken := l.active[id]
		if !taken {
			done := make(chan struct{})
			if l.active == nil {
				l.active = map[string]chan struct{}{}
			}
			l.active[id] = done
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.active, id)
				l.mu.Unlock()
				close(done)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// fetchLayers makes all layers, several at once, each linked as soon as it and its
// parent are there.
func (p *pull) fetchLayers(ctx context.Context, src *source, plans []layerPlan) error {
	var settle func()
	if err := p.phased(ctx, "image.journal", func(context.Context, *telemetry.Span) (err error) {
		settle, err = p.announce(plans)
		return err
	}); err != nil {
		return err
	}
	defer settle()
	phase := "image.layer"
	p.phase.Store(&phase)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.config.MaxLayers)
	below := make(chan struct{})
	close(below)
	for _, plan := range plans {
		parent, mine := below, make(chan struct{})
		below = mine
		group.Go(func() error {
			if err := p.fetchLayer(ctx, src, plan, parent); err != nil {
				return err
			}
			close(mine)
			return nil
		})
	}
	return group.Wait()
}

// announce writes the journal of the layers that are not there yet.
func (p *pull) announce(plans []layerPlan) (settle func(), err error) {
	var missing []string
	for _, plan := range plans {
		if _, err := p.storage.Layer(plan.id); err != nil {
			missing = append(missing, plan.id)
			p.total.Add(max(plan.info.Size, 0))
		}
	}
	if len(missing) == 0 {
		return func() {}, nil
	}
	return p.journal(missing)
}

// layerRetries bounds how often a layer is begun anew because its download broke off.
const layerRetries = 2

// fetchLayer makes one layer unless it is there. parent is closed when the parent is.
func (p *pull) fetchLayer(ctx context.Context, src *source, plan layerPlan, parent <-chan struct{}) error {
	return p.step(ctx, "image.layer", func(ctx context.Context, span *telemetry.Span) (err error) {
		span.Set(attribute.String("vitrine.image.layer.digest", plan.info.Digest.String()), attribute.String("vitrine.image.layer.media_type", plan.info.MediaType),
			attribute.Int64("vitrine.image.layer.size", plan.info.Size))
		release, err := p.layers.claim(ctx, plan.id)
		if err != nil {
			return err
		}
		defer release()
		if _, err := p.storage.Layer(plan.id); err == nil {
			span.Set(attribute.Bool("vitrine.image.cached", true), attribute.Int64(string(telemetry.KeyImageCachedBytes), max(0, plan.info.Size)))
			return nil
		}
		staged, usage, err := p.stageLocal(ctx, plan)
		if err != nil {
			staged, usage, err = p.stageRemote(ctx, src, plan)
		}
		// containers/image goes on where a connection broke, from the same place only. When
		// that is gone, a layer begun anew comes from the next mirror.
		for again := 0; again < layerRetries && errors.Is(err, errBroken) && ctx.Err() == nil; again++ {
			staged, usage, err = p.stageRemote(ctx, src, plan)
		}
		if err != nil {
			return err
		}
		select {
		case <-parent:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), p.storage.CleanupStagedLayer(staged))
		}
		return p.step(ctx, "image.layer.commit", func(context.Context, *telemetry.Span) error {
			return p.commitLayer(plan, staged, usage)
		})
	})
}

// stageRemote fetches the layer from the registry.
func (p *pull) stageRemote(ctx context.Context, src *source, plan layerPlan) (_ *drivers.DriverWithDifferOutput, _ Usage, err error) {
	downloadCtx, span := telemetry.Start(ctx, "image.layer.download", attribute.String("vitrine.image.layer.digest", plan.info.Digest.String()))
	downloadCtx, route := follow(downloadCtx, p.touch)
	var ended sync.Once
	stream := &layerStream{blob: plan.info.Digest, diffID: plan.diffID, size: plan.info.Size, maxBytes: p.config.MaxLayerBytes, touch: p.touch, arrived: &p.bytes}
	end := func(err error) {
		ended.Do(func() {
			err = p.fail(err)
			route.end(span, err)
			span.Set(attribute.Int64("vitrine.image.bytes", stream.downloaded), attribute.Float64("vitrine.image.blocked_seconds", stream.blocked.Seconds()))
			span.End(&err)
		})
	}
	downloadCtx, cancel := context.WithCancel(downloadCtx)
	defer cancel()
	body, _, err := src.GetBlob(downloadCtx, plan.info, none.NoCache)
	if err != nil {
		end(err)
		return nil, Usage{}, fmt.Errorf("fetch layer %s: %w", plan.info.Digest, err)
	}
	defer body.Close()
	staged, usage, err := p.stage(ctx, plan, stream, body, end)
	if err != nil {
		p.bytes.Add(-stream.downloaded)
		return nil, Usage{}, fmt.Errorf("layer %s: %w", plan.info.Digest, err)
	}
	staged.CompressedDigest = plan.info.Digest
	return staged, usage, nil
}

// errNotLocal: no stored layer has this content.
var errNotLocal = errors.New("no stored layer has this content")

// stageLocal copies the layer from one with the same content on another parent.
func (p *pull) stageLocal(ctx context.Context, plan layerPlan) (*drivers.DriverWithDifferOutput, Usage, error) {
	same, err := p.storage.LayersByUncompressedDigest(plan.diffID)
	if err != nil || len(same) == 0 {
		return nil, Usage{}, errNotLocal
	}
	plain := archive.Uncompressed
	body, err := p.storage.Diff("", same[0].ID, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return nil, Usage{}, err
	}
	defer body.Close()
	stream := &layerStream{diffID: plan.diffID, size: -1, maxBytes: p.config.MaxLayerBytes, touch: p.touch}
	staged, usage, err := p.stage(ctx, plan, stream, body, func(error) {})
	if err == nil {
		staged.CompressedDigest = same[0].CompressedDigest
	}
	return staged, usage, err
}

// stage unpacks a stream into a directory of the store that is no layer yet.
func (p *pull) stage(ctx context.Context, plan layerPlan, stream *layerStream, body io.Reader, downloaded func(error)) (*drivers.DriverWithDifferOutput, Usage, error) {
	d := &differ{ctx: ctx, pull: p, plan: plan, stream: stream, body: body, downloaded: downloaded}
	staged, err := p.storage.PrepareStagedLayer(&drivers.ApplyDiffWithDifferOpts{}, d)
	if err != nil {
		downloaded(err) // when unpacking never began
		if staged != nil && staged.Target != "" {
			err = errors.Join(err, p.storage.CleanupStagedLayer(staged))
		}
		return nil, Usage{}, err
	}
	return staged, d.out.usage, nil
}

// differ unpacks one layer for containers/storage. (The library's interface is marked
// experimental; its version is pinned.)
type differ struct {
	ctx        context.Context
	pull       *pull
	plan       layerPlan
	stream     *layerStream
	body       io.Reader
	downloaded func(error)
	out        unpacked
}

// ApplyDiff unpacks below dest and verifies the digests.
func (d *differ) ApplyDiff(dest string, options *archive.TarOptions, how *drivers.DifferOptions) (_ drivers.DriverWithDifferOutput, err error) {
	var out drivers.DriverWithDifferOutput
	if how.Format != drivers.DifferOutputFormatDir || options.ForceMask != nil || options.IgnoreChownErrors || options.InUserNS ||
		len(options.UIDMaps)+len(options.GIDMaps) > 0 || options.WhiteoutFormat != archive.OverlayWhiteoutFormat {
		return out, fmt.Errorf("%w: options of the storage driver", errUncovered)
	}
	split, err := newSplitter(how.StagingDirectory)
	if err != nil {
		return out, err
	}
	ctx, span := telemetry.Start(d.ctx, "image.layer.apply", attribute.String("vitrine.image.layer.digest", d.plan.info.Digest.String()))
	defer func() {
		shown := d.pull.fail(err)
		span.End(&shown)
	}()
	d.stream.start(ctx, d.body, d.downloaded)
	began := time.Now()
	u := &unpacker{split: split, maxEntries: d.pull.config.MaxLayerEntries, maxBytes: d.pull.config.MaxLayerBytes}
	d.out, err = u.unpack(dest, d.stream.files)
	writing := time.Since(began) - d.stream.files.waited
	d.stream.note(err)
	if streamErr := d.stream.wait(); streamErr != nil {
		err = streamErr
	}
	span.Set(attribute.Int64("vitrine.image.bytes", d.stream.inflated), attribute.Int64("vitrine.image.entries", d.out.entries),
		telemetry.KeyDecompressSeconds.Float64(d.stream.decompressing.Seconds()), telemetry.KeyWriteSeconds.Float64(writing.Seconds()))
	if err != nil {
		return out, errors.Join(err, split.file.Close())
	}
	out = drivers.DriverWithDifferOutput{
		Differ:             d,
		Size:               d.stream.inflated,
		UIDs:               d.out.uids,
		GIDs:               d.out.gids,
		UncompressedDigest: d.plan.diffID,
		TarSplit:           split.result(),
		RootDirMode:        d.out.rootMode,
	}
	return out, nil
}

// Close implements drivers.Differ.
func (d *differ) Close() error { return nil }

// commitLayer makes a staged directory the layer it is meant to be.
func (p *pull) commitLayer(plan layerPlan, staged *drivers.DriverWithDifferOutput, usage Usage) error {
	if plan.parent != "" && staged.RootDirMode == nil {
		// The library gives the root directory its parent's mode, and nothing else.
		var st unix.Stat_t
		if err := unix.Stat(p.layerDir(plan.parent)+"/diff", &st); err == nil && (st.Uid != 0 || st.Gid != 0) {
			if err := unix.Lchown(staged.Target, int(st.Uid), int(st.Gid)); err != nil {
				return errors.Join(err, p.storage.CleanupStagedLayer(staged))
			}
		}
	}
	_, err := p.storage.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID:           plan.id,
		ParentLayer:  plan.parent,
		LayerOptions: &storage.LayerOptions{},
		DiffOutput:   staged,
		DiffOptions:  &drivers.ApplyDiffWithDifferOpts{Flags: map[string]any{}},
	})
	// Also after success: what is left is the directory around the one that moved.
	if err = errors.Join(err, p.storage.CleanupStagedLayer(staged)); err != nil {
		return fmt.Errorf("link layer %s: %w", plan.id, err)
	}
	return p.recordUsage(plan.id, usage)
}

var _ drivers.Differ = (*differ)(nil)
