package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// spool keeps batches of all signals on disk while no collector takes them:
//
//	DIR/
//	├── 00000000000000000007-512-9ab03c11.traces   an export request, protobuf
//	├── 00000000000000000008-90-00c4e1d7.logs      NUMBER-COUNT-CRC32C.SIGNAL
//	└── 00000000000000000009-311-7715aa20.metrics
//
// Numbers grow. A batch is written beside its place and renamed; it is not synced: a
// crash of the machine may lose it, and the checksum tells. The bytes are shared by
// the signals: when they are used up, the oldest batch of the signal that has the
// most gives way, so that a flood of one leaves the others. Safe for concurrent use.
type spool struct {
	dir   string
	limit int64

	mu    sync.Mutex // guards the rest
	files map[signal][]spooled
	bytes map[signal]int64
	next  uint64
}

// spooled is one batch in the spool.
type spooled struct {
	of     signal
	number uint64
	count  int
	sum    uint32
	bytes  int64
}

func (f spooled) name() string {
	return fmt.Sprintf("%020d-%d-%08x.%s", f.number, f.count, f.sum, f.of)
}

// maxBatchFile bounds a batch, in bytes.
const maxBatchFile = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openSpool takes up what an earlier daemon has left. 0 is 64 MiB.
func openSpool(dir string, limit int64) (*spool, error) {
	s := &spool{dir: dir, limit: cmp.Or(limit, 64<<20), next: 1, files: map[signal][]spooled{}, bytes: map[signal]int64{}}
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
		s.files[f.of] = append(s.files[f.of], f)
		s.bytes[f.of] += f.bytes
		s.next = max(s.next, f.number+1)
	}
	if err != nil {
		return nil, fmt.Errorf("open telemetry spool: %w", err)
	}
	for _, files := range s.files {
		slices.SortFunc(files, func(a, b spooled) int { return cmp.Compare(a.number, b.number) })
	}
	return s, nil
}

func parseSpooled(e fs.DirEntry) (f spooled, ok bool) {
	stem, kind, _ := strings.Cut(e.Name(), ".")
	parts := strings.Split(stem, "-")
	if !slices.Contains([]signal{traces, logs, metered}, signal(kind)) || len(parts) != 3 {
		return f, false
	}
	number, err1 := strconv.ParseUint(parts[0], 10, 63)
	count, err2 := strconv.Atoi(parts[1])
	sum, err3 := strconv.ParseUint(parts[2], 16, 32)
	info, err4 := e.Info()
	if errors.Join(err1, err2, err3, err4) != nil || !info.Mode().IsRegular() {
		return f, false
	}
	return spooled{signal(kind), number, count, uint32(sum), info.Size()}, true
}

// put keeps a batch and returns what had to give way, by signal; the batch itself
// when it could not be written or is larger than the spool.
func (s *spool) put(of signal, b batch) (lost map[signal]int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost = map[signal]int{}
	size := int64(len(b.raw))
	if size > min(s.limit, maxBatchFile) {
		lost[of] += b.count
		return lost, fmt.Errorf("keep %d %s: %d bytes, and the spool has room for %d", b.count, of, size, min(s.limit, maxBatchFile))
	}
	for s.total()+size > s.limit {
		largest := s.largest()
		lost[largest] += s.files[largest][0].count
		s.removeFirst(largest)
	}
	f := spooled{of, s.next, b.count, crc32.Checksum(b.raw, castagnoli), size}
	path := filepath.Join(s.dir, f.name())
	if err := os.WriteFile(path+".new", b.raw, 0o600); err != nil {
		lost[of] += b.count
		return lost, errors.Join(fmt.Errorf("keep %d %s: %w", b.count, of, err), os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		lost[of] += b.count
		return lost, fmt.Errorf("keep %d %s: %w", b.count, of, err)
	}
	s.next++
	s.files[of] = append(s.files[of], f)
	s.bytes[of] += size
	return lost, nil
}

func (s *spool) total() (sum int64) {
	for _, n := range s.bytes {
		sum += n
	}
	return sum
}

// largest is the signal that has the most bytes; there is one with a batch.
func (s *spool) largest() (of signal) {
	for _, candidate := range []signal{traces, logs, metered} {
		if len(s.files[candidate]) > 0 && (of == "" || s.bytes[candidate] > s.bytes[of]) {
			of = candidate
		}
	}
	return of
}

// oldest reads a signal's oldest batch, which stays until it is sent. Batches that
// are damaged are removed on the way and counted. ok is false without a batch.
func (s *spool) oldest(of signal) (b batch, damaged int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.files[of]) > 0 {
		f := s.files[of][0]
		raw, err := readBounded(filepath.Join(s.dir, f.name()))
		if err == nil && len(raw) > 0 && crc32.Checksum(raw, castagnoli) == f.sum {
			return batch{raw: raw, count: f.count, sent: func() { s.remove(f) }}, damaged, true
		}
		damaged += f.count
		s.removeFirst(of)
	}
	return batch{}, damaged, false
}

// remove forgets the oldest batch of a signal, if f is still that.
func (s *spool) remove(f spooled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if files := s.files[f.of]; len(files) > 0 && files[0] == f {
		s.removeFirst(f.of)
	}
}

// removeFirst forgets the oldest batch also when its file cannot be removed: the
// next opening finds it again.
func (s *spool) removeFirst(of signal) {
	f := s.files[of][0]
	s.files[of] = s.files[of][1:]
	s.bytes[of] -= f.bytes
	_ = os.Remove(filepath.Join(s.dir, f.name()))
}

// size is what a signal has in the spool, in bytes.
func (s *spool) size(of signal) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes[of]
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
