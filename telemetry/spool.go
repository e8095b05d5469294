package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// spool keeps batches of spans on disk while no collector takes them:
//
//	DIR/
//	├── 00000000000000000007-512.traces   TracesData, protobuf; number-spans
//	└── 00000000000000000008-90.traces
//
// Numbers grow. A batch is written beside its place and renamed; it is not synced,
// a crash of the machine may lose it. The spool is used by one goroutine; size is
// read by others.
type spool struct {
	dir   string
	limit int64

	mu    sync.Mutex // guards the rest
	files []spooled
	next  uint64
	bytes int64
}

type spooled struct {
	name   string
	number uint64
	spans  int
	bytes  int64
}

// maxBatchFile bounds what is read back, in bytes.
const maxBatchFile = 64 << 20

func openSpool(dir string, limit int64) (*spool, error) {
	s := &spool{dir: dir, limit: cmp.Or(limit, 64<<20), next: 1}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open telemetry spool: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open telemetry spool: %w", err)
	}
	for _, e := range entries {
		f, ok := parseSpooled(e)
		if !ok {
			if strings.HasSuffix(e.Name(), ".new") { // a write that did not finish
				err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
			}
			continue
		}
		s.files = append(s.files, f)
		s.bytes += f.bytes
		s.next = max(s.next, f.number+1)
	}
	if err != nil {
		return nil, fmt.Errorf("open telemetry spool: %w", err)
	}
	slices.SortFunc(s.files, func(a, b spooled) int { return cmp.Compare(a.number, b.number) })
	return s, nil
}

func parseSpooled(e fs.DirEntry) (f spooled, ok bool) {
	stem, isBatch := strings.CutSuffix(e.Name(), ".traces")
	number, spans, found := strings.Cut(stem, "-")
	if !isBatch || !found {
		return f, false
	}
	n, err1 := strconv.ParseUint(number, 10, 63)
	count, err2 := strconv.Atoi(spans)
	info, err3 := e.Info()
	if err1 != nil || err2 != nil || err3 != nil || !info.Mode().IsRegular() {
		return f, false
	}
	return spooled{e.Name(), n, count, info.Size()}, true
}

// put keeps a batch and returns how many spans had to give way, those of the batch
// itself when it could not be written.
func (s *spool) put(spans []*tracepb.ResourceSpans, count int) (lost int, err error) {
	raw, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return count, fmt.Errorf("keep %d spans: %w", count, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(raw))
	if size > min(s.limit, maxBatchFile) {
		return count, nil
	}
	for len(s.files) > 0 && s.bytes+size > s.limit {
		lost += s.files[0].spans
		s.removeFirst()
	}
	f := spooled{fmt.Sprintf("%020d-%d.traces", s.next, count), s.next, count, size}
	path := filepath.Join(s.dir, f.name)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return lost + count, errors.Join(fmt.Errorf("keep %d spans: %w", count, err), os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return lost + count, fmt.Errorf("keep %d spans: %w", count, err)
	}
	s.next++
	s.files = append(s.files, f)
	s.bytes += size
	return lost, nil
}

// oldest reads the oldest batch; done removes it. Batches that cannot be read are
// removed on the way. Without a batch, spans is nil.
func (s *spool) oldest() (spans []*tracepb.ResourceSpans, count int, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.files) > 0 {
		f := s.files[0]
		var data tracepb.TracesData
		raw, err := readBounded(filepath.Join(s.dir, f.name))
		if err == nil {
			err = proto.Unmarshal(raw, &data)
		}
		if err == nil && len(data.ResourceSpans) > 0 {
			return data.ResourceSpans, f.spans, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.files) > 0 && s.files[0].name == f.name {
					s.removeFirst()
				}
			}
		}
		s.removeFirst()
	}
	return nil, 0, func() {}
}

// removeFirst forgets the oldest batch also when its file cannot be removed: the
// next opening finds it again.
func (s *spool) removeFirst() {
	f := s.files[0]
	s.files = s.files[1:]
	s.bytes -= f.bytes
	_ = os.Remove(filepath.Join(s.dir, f.name))
}

func (s *spool) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBatchFile {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d are believed", path, info.Size(), maxBatchFile)
	}
	return os.ReadFile(path)
}
