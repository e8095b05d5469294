package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/vitrine-runtime/vitrine/image/inflate"
	"github.com/vitrine-runtime/vitrine/pod"
)

// A layer flows through four goroutines, each busy while the others are:
//
//	network ──► sha256 of the blob ──chunks──► inflate ──chunks──┬──► sha256 of the tar
//	                                                             └──► files (unpack.go)
//
// Queues between them are short, so memory is bounded by chunks in flight
// (2 × queueLength × chunkSize per layer and the decompressor's window), whatever
// the size of the layer.
const (
	chunkSize   = 256 << 10
	queueLength = 6
	// maxWindow bounds the history a zstd frame may demand, in bytes.
	maxWindow = 128 << 20
)

// errDigest: the bytes are not those that were asked for.
var errDigest = errors.New("digest does not match")

// errDamaged: the compressed stream makes no sense.
var errDamaged = errors.New("layer is damaged")

// errBroken: the source ended before the layer did.
var errBroken = errors.New("download broke off")

// errUncovered sends a layer to the plain path.
var errUncovered = errors.New("not covered by the concurrent path")

// layerStream is one layer on its way.
type layerStream struct {
	// Expected digests; blob may be empty for a local source.
	blob, diffID digest.Digest
	size         int64 // of the blob; negative when unknown
	maxBytes     int64 // bound on the uncompressed size
	touch        func()
	arrived      *atomic.Int64 // counts bytes of the blob; nil for a local source

	files *chunkReader // the uncompressed tar
	// Figures, valid when wait has returned.
	downloaded, inflated int64
	blocked              time.Duration // the network waited for the disk
	decompressing        time.Duration // the decompressor waited for nobody
	work                 sync.WaitGroup
	mu                   sync.Mutex // guards err
	err                  error      // the first failure
	cancel               context.CancelCauseFunc
}

// start begins to read body; the caller reads s.files to its end, or cancels, and
// then calls wait.
func (s *layerStream) start(ctx context.Context, body io.Reader, downloadDone func(error)) {
	ctx, s.cancel = context.WithCancelCause(ctx)
	packed := &chunkReader{ctx: ctx, queue: make(chan *chunk, queueLength)}
	s.files = &chunkReader{ctx: ctx, queue: make(chan *chunk, queueLength)}
	sums := &chunkReader{ctx: ctx, queue: make(chan *chunk, queueLength)}
	s.work.Go(func() {
		err := s.download(ctx, body, packed)
		downloadDone(err)
		s.note(err)
		packed.err = err
		close(packed.queue)
	})
	s.work.Go(func() {
		err := s.inflate(ctx, packed, sums, s.files)
		s.note(err)
		sums.err, s.files.err = err, err
		close(sums.queue)
		close(s.files.queue)
	})
	s.work.Go(func() { s.note(s.checkDiffID(sums)) })
}

// wait ends the stream and returns its first error.
func (s *layerStream) wait() error {
	s.work.Wait()
	s.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *layerStream) note(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.cancel(err)
}

func (s *layerStream) download(ctx context.Context, body io.Reader, to *chunkReader) error {
	sum := sha256.New()
	for {
		c := newChunk()
		err := fill(body, c)
		s.downloaded += int64(len(c.data))
		if s.arrived != nil {
			s.arrived.Add(int64(len(c.data)))
		}
		s.touch()
		sum.Write(c.data)
		if s.size >= 0 && s.downloaded > s.size {
			return fmt.Errorf("%w: blob %s is longer than the %d bytes of its descriptor", errDigest, s.blob, s.size)
		}
		if len(c.data) > 0 {
			c.refs.Store(1)
			began := time.Now()
			select {
			case to.queue <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			s.blocked += time.Since(began)
		}
		if err == io.EOF {
			break
		}
		if ctx.Err() != nil { // it did not break off, it was given up
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
	}
	if got := digest.NewDigest(digest.SHA256, sum); s.blob != "" && got != s.blob {
		return fmt.Errorf("%w: blob %s arrived as %s (%d of %d bytes)", errDigest, s.blob, got, s.downloaded, s.size)
	}
	return nil
}

func (s *layerStream) inflate(ctx context.Context, from, sums, files *chunkReader) error {
	began, blocked := time.Now(), time.Duration(0)
	defer func() { s.decompressing = time.Since(began) - from.waited - blocked }()
	plain, end, err := decompressor(from)
	if err != nil {
		return err
	}
	defer end()
	for {
		c := newChunk()
		err := fill(plain, c)
		if s.inflated += int64(len(c.data)); s.inflated > s.maxBytes {
			return fmt.Errorf("%w: layer %s holds more than %d bytes", pod.ErrExhausted, s.diffID, s.maxBytes)
		}
		if len(c.data) > 0 {
			c.refs.Store(2)
			full := time.Now()
			for _, to := range []*chunkReader{sums, files} {
				select {
				case to.queue <- c:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			blocked += time.Since(full)
		}
		s.touch()
		if err == io.EOF {
			// What lies behind the compressed stream belongs to the blob's digest.
			_, err = io.Copy(io.Discard, from)
			return err
		}
		if err != nil {
			return damaged(err)
		}
	}
}

func (s *layerStream) checkDiffID(from *chunkReader) error {
	sum := sha256.New()
	for {
		b, err := from.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		sum.Write(b)
		from.advance(len(b))
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != s.diffID {
		return fmt.Errorf("%w: layer unpacks to %s, the image's configuration says %s", errDigest, got, s.diffID)
	}
	return nil
}

// decompressor finds the compression by the stream's first bytes, as every consumer
// of images does: media types lie.
func decompressor(from *chunkReader) (plain io.Reader, end func(), err error) {
	head, err := from.next()
	if err == io.EOF {
		return bytes.NewReader(nil), func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return inflate.NewReader(from.piece), func() {}, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<40))
		if err != nil {
			return nil, nil, damaged(err)
		}
		return z, z.Close, nil
	case bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, nil, fmt.Errorf("%w: layers compressed with bzip2 or xz", pod.ErrUnsupported)
	}
	return from, func() {}, nil
}
