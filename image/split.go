package image

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// splitter lies between a layer's stream and the tar reader. It keeps every byte that
// is not content of a file, in the form from which containers/storage rebuilds the
// exact archive (tar-split), and it hands content to the unpacker without a copy: the
// tar reader then skips content that is gone already.
type splitter struct {
	from    *chunkReader
	skip    int64  // content that payload has consumed and the tar reader has not
	segment []byte // bytes of headers and padding since the last entry
	file    *os.File
	buffer  *bufio.Writer
	packer  storage.Packer // nil when the archive cannot be split
	current *tar.Header
}

// maxSegment bounds headers between two files, and padding at the end, in bytes.
const maxSegment = 16 << 20

// newSplitter writes to a nameless file in dir.
func newSplitter(dir string) (*splitter, error) {
	file, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make file for the layer's headers: %w", err)
	}
	s := &splitter{file: file, buffer: bufio.NewWriterSize(file, 64<<10)}
	s.packer = storage.NewJSONPacker(s.buffer)
	return s, nil
}

// Read implements io.Reader for the tar reader.
func (s *splitter) Read(p []byte) (int, error) {
	if s.skip > 0 {
		n := min(int64(len(p)), s.skip)
		s.skip -= n
		return int(n), nil // whatever p holds: the tar reader throws it away
	}
	n, err := s.from.Read(p)
	if len(s.segment)+n > maxSegment {
		return n, fmt.Errorf("%w: more than %d bytes between two files of the layer", pod.ErrExhausted, maxSegment)
	}
	s.segment = append(s.segment, p[:n]...)
	return n, err
}

// begin records the headers that led to an entry.
func (s *splitter) begin(h *tar.Header) error {
	s.current = h
	if err := s.flush(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg && h.Size > 0 {
		return nil // recorded by payload, with its checksum
	}
	return s.add(storage.Entry{Type: storage.FileType}, h.Name)
}

// payload hands n bytes of content to write, piece by piece.
func (s *splitter) payload(n int64, write func([]byte) error) error {
	if n == 0 {
		return nil
	}
	var sum checksum
	for left := n; left > 0; {
		b, err := s.from.next()
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		b = b[:min(int64(len(b)), left)]
		if s.packer != nil {
			sum.write(b)
		}
		if err := write(b); err != nil {
			return err
		}
		s.from.advance(len(b))
		left -= int64(len(b))
	}
	s.skip = n
	return s.add(storage.Entry{Type: storage.FileType, Size: n, Payload: sum.sum()}, s.current.Name)
}

// finish reads what follows the archive's end and completes the record.
func (s *splitter) finish() error {
	var tail [32 << 10]byte
	for {
		if _, err := s.Read(tail[:]); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	if s.packer == nil {
		return nil
	}
	return s.buffer.Flush()
}

func (s *splitter) flush() error {
	if len(s.segment) == 0 {
		return nil
	}
	err := s.add(storage.Entry{Type: storage.SegmentType, Payload: s.segment}, "")
	s.segment = s.segment[:0]
	return err
}

func (s *splitter) add(e storage.Entry, name string) error {
	if s.packer == nil {
		return nil
	}
	e.SetName(name)
	_, err := s.packer.AddEntry(e)
	if errors.Is(err, storage.ErrDuplicatePath) {
		// One path twice cannot be rebuilt from a file tree. The layer is good all
		// the same; only its exact archive cannot be had back.
		s.packer = nil
		return nil
	}
	return err
}

// result is the file for containers/storage, which closes it; nil when there is none.
func (s *splitter) result() *os.File {
	if s.packer == nil {
		s.file.Close()
		return nil
	}
	return s.file
}
