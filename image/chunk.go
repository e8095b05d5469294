package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// chunk is a piece of a stream with the number of its readers.
type chunk struct {
	data []byte
	refs atomic.Int32
}

var chunks = sync.Pool{New: func() any { return &chunk{data: make([]byte, chunkSize)} }}

func newChunk() *chunk {
	c := chunks.Get().(*chunk)
	c.data = c.data[:chunkSize]
	return c
}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		chunks.Put(c)
	}
}

// chunkReader reads a queue of chunks. The queue's sender sets err before it closes
// the queue; nil means a whole stream.
type chunkReader struct {
	ctx   context.Context
	queue chan *chunk
	err   error
	head  *chunk
	rest  []byte
	// waited is how long the reader stood before an empty queue; its own to read.
	waited time.Duration
}

// next returns the unread part of the stream that is at hand, without copying; it is
// valid until the next call. At the end: io.EOF.
func (r *chunkReader) next() ([]byte, error) {
	for len(r.rest) == 0 {
		if r.head != nil {
			r.head.release()
			r.head = nil
		}
		c, open, err := r.receive()
		if err != nil {
			return nil, err
		}
		if !open {
			if r.err != nil {
				return nil, upstream{r.err}
			}
			return nil, io.EOF
		}
		r.head, r.rest = c, c.data
	}
	return r.rest, nil
}

// receive takes the next chunk, and counts the time only if there is none yet.
func (r *chunkReader) receive() (c *chunk, open bool, err error) {
	select {
	case c, open = <-r.queue:
		return c, open, nil
	default:
	}
	began := time.Now()
	defer func() { r.waited += time.Since(began) }()
	select {
	case c, open = <-r.queue:
		return c, open, nil
	case <-r.ctx.Done():
		return nil, false, upstream{context.Cause(r.ctx)}
	}
}

// advance marks n bytes of what next returned as read.
func (r *chunkReader) advance(n int) { r.rest = r.rest[n:] }

// piece is next and advance in one: all that is at hand, as read.
func (r *chunkReader) piece() ([]byte, error) {
	b, err := r.next()
	r.rest = nil
	return b, err
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	b, err := r.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.advance(n)
	return n, nil
}

// fill reads until the chunk is full or r ends. (io.ReadFull would give the end of a
// whole stream and the tearing of one the same name.)
func fill(r io.Reader, c *chunk) error {
	n := 0
	for n < chunkSize {
		m, err := r.Read(c.data[n:chunkSize])
		n += m
		if err != nil {
			c.data = c.data[:n]
			return err
		}
	}
	c.data = c.data[:n]
	return nil
}

// upstream marks an error that a reader met and did not make.
type upstream struct{ err error }

func (u upstream) Error() string { return u.err.Error() }

func (u upstream) Unwrap() error { return u.err }

// damaged says that a decompressor did not understand its input, unless the input
// ended with an error of its own.
func damaged(err error) error {
	var up upstream
	if errors.As(err, &up) {
		return up.err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}
