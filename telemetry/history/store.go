package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a store. Dir is required.
type Options struct {
	// Dir is made, mode 0700: entries hold the last words of programs.
	Dir string
	// Bytes bounds all segments together; the oldest gives way. 0: 64 MiB.
	Bytes int64
	// Age is how long entries are kept. 0: 24 h.
	Age time.Duration
	// Problem is called for a write that failed, from the writer. Nil: nothing.
	Problem func(error)
	// Lost is called with the number of entries that were dropped; it must not block.
	// Nil: nothing.
	Lost func(int)
}

// segmentsKept is into how many segments the bytes are cut: what gives way at once.
const segmentsKept = 16

const (
	// queued entries at most wait for the writer.
	queued = 4096
	// syncEvery is how much a crash of the kernel may cost.
	syncEvery = 5 * time.Second
)

// Store is the node's history. It is safe for concurrent use; a nil Store keeps nothing.
type Store struct {
	o       Options
	queue   chan item
	done    chan struct{}
	dropped atomic.Int64
	bytes   atomic.Int64

	closing sync.RWMutex // held for reading while something is queued
	closed  bool         // guarded by closing

	// The rest belongs to the writer.
	file   *os.File
	number int
	size   int64
	opened time.Time
	dirty  bool
}

// item is an entry, or a request to say when everything before it is in the file.
type item struct {
	entry   Entry
	flushed chan struct{}
}

// Open makes or continues the store in o.Dir. The caller closes it.
func Open(o Options) (*Store, error) {
	o.Bytes, o.Age = cmp.Or(o.Bytes, 64<<20), cmp.Or(o.Age, 24*time.Hour)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	s := &Store{o: o, queue: make(chan item, queued), done: make(chan struct{})}
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	go s.write()
	return s, nil
}

// Put keeps an entry. It never blocks; see Dropped.
func (s *Store) Put(e Entry) {
	if s == nil {
		return
	}
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		s.lose(1)
		return
	}
	select {
	case s.queue <- item{entry: e}:
	default:
		s.lose(1)
	}
}

func (s *Store) lose(n int) {
	s.dropped.Add(int64(n))
	if s.o.Lost != nil {
		s.o.Lost(n)
	}
}

// Dropped counts entries that were not kept: the queue was full or the disk refused.
func (s *Store) Dropped() int64 {
	if s == nil {
		return 0
	}
	return s.dropped.Load()
}

// Size is the bytes of all segments.
func (s *Store) Size() int64 {
	if s == nil {
		return 0
	}
	return s.bytes.Load()
}

// Flush returns when everything put before is in the file, or ctx ends.
func (s *Store) Flush(ctx context.Context) error {
	if s == nil {
		return nil
	}
	flushed := make(chan struct{})
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		return nil
	}
	select {
	case s.queue <- item{flushed: flushed}:
		s.closing.RUnlock()
	case <-ctx.Done():
		s.closing.RUnlock()
		return ctx.Err()
	}
	select {
	case <-flushed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what waits, syncs, and ends the writer.
func (s *Store) Close() error {
	if s == nil {
		return nil
	}
	s.closing.Lock()
	again := s.closed
	s.closed = true
	s.closing.Unlock()
	if !again {
		close(s.queue)
	}
	<-s.done
	return nil
}

// Find returns the entries whose subject a query names (see
// Subject.Matches), the oldest first, and all entries about the node. An empty query
// finds everything. It reads the files: what Put took a moment ago needs Flush first.
func (s *Store) Find(query string) ([]Entry, error) {
	if s == nil {
		return nil, nil
	}
	all, err := segments(s.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	var texts [][]byte
	if query != "" {
		for _, part := range parts(query) { // cheap: the line is decoded only when it may match
			texts = append(texts, []byte(part))
		}
		texts = append(texts, []byte(`"kind":"daemon"`))
	}
	oldest := time.Now().Add(-s.o.Age)
	var found []Entry
	var errs []error
	for _, seg := range all {
		_, err := scan(seg.path, texts, func(e Entry) {
			if e.Time.After(oldest) && (query == "" || e.Kind == KindDaemon || e.Matches(query)) {
				found = append(found, e)
			}
		})
		errs = append(errs, err)
	}
	slices.SortStableFunc(found, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return found, errors.Join(errs...)
}

// parts is what must stand in the line of every entry that a query names: its last
// element, a pod's or container's name or an id.
func parts(query string) []string {
	for i := len(query) - 1; i >= 0; i-- {
		if query[i] == '/' {
			return []string{query[i+1:]}
		}
	}
	return []string{query}
}

// write is the writer: it ends when the queue is closed.
func (s *Store) write() {
	defer close(s.done)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	var flushed []chan struct{}
	for {
		select {
		case first, open := <-s.queue:
			if !open {
				s.sync()
				s.problem(s.file.Close())
				return
			}
			var batch []byte
			count := 0
			flushed = flushed[:0]
			for it, more := first, true; more; {
				if it.flushed != nil {
					flushed = append(flushed, it.flushed)
				} else if text, err := line(it.entry); err != nil {
					s.lose(1)
					s.problem(err)
				} else {
					batch, count = append(batch, text...), count+1
				}
				if len(batch) > 1<<20 {
					break
				}
				select {
				case it, more = <-s.queue:
					// closed: the next round sees it again
				default:
					more = false
				}
			}
			s.append(batch, count)
			for _, c := range flushed {
				close(c)
			}
		case <-tick.C:
			s.sync()
			s.expire()
		}
	}
}

// append writes whole lines; after a failure it tries to leave no half of one.
func (s *Store) append(batch []byte, count int) {
	if len(batch) == 0 {
		return
	}
	if s.size > s.o.Bytes/segmentsKept || time.Since(s.opened) > s.o.Age/segmentsKept {
		s.rotate()
	}
	if _, err := s.file.Write(batch); err != nil {
		s.lose(count)
		s.problem(errors.Join(fmt.Errorf("write history: %w", err), s.file.Truncate(s.size)))
		return
	}
	s.size += int64(len(batch))
	s.bytes.Add(int64(len(batch)))
	s.dirty = true
}

func (s *Store) sync() {
	if s.dirty {
		s.dirty = false
		s.problem(s.file.Sync())
	}
}

func (s *Store) problem(err error) {
	if err != nil && s.o.Problem != nil {
		s.o.Problem(err)
	}
}

// begin continues the last segment. A line that a crash tore is ended, so that the
// next one begins at its own.
func (s *Store) begin() error {
	all, err := segments(s.o.Dir)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return s.create(1)
	}
	last := all[len(all)-1]
	f, err := os.OpenFile(last.path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	first := make([]byte, len(header))
	if _, err := f.ReadAt(first, 0); err != nil || string(first) != header {
		return errors.Join(f.Close(), s.create(last.number+1)) // another version's, or torn at its birth
	}
	end := make([]byte, 1)
	if _, err := f.ReadAt(end, last.size-1); err != nil {
		return errors.Join(err, f.Close())
	}
	if end[0] != '\n' {
		if _, err := f.Write([]byte("\n")); err != nil {
			return errors.Join(err, f.Close())
		}
		last.size++
	}
	s.file, s.number, s.size, s.opened = f, last.number, last.size, time.Now()
	s.expire()
	return nil
}

func (s *Store) create(number int) error {
	path := filepath.Join(s.o.Dir, fmt.Sprintf("%010d.log", number))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(header); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	s.file, s.number, s.size, s.opened = f, number, int64(len(header)), time.Now()
	return nil
}

// rotate goes on in a new segment; when there is none to be had, in the old one.
func (s *Store) rotate() {
	old := s.file
	s.sync()
	if err := s.create(s.number + 1); err != nil {
		s.problem(fmt.Errorf("begin a segment of history: %w", err))
		return
	}
	s.problem(old.Close())
	s.expire()
}

// expire removes segments that are too old or too many.
func (s *Store) expire() {
	all, err := segments(s.o.Dir)
	if err != nil {
		s.problem(err)
		return
	}
	var total int64
	for _, seg := range all {
		total += seg.size
	}
	for _, seg := range all {
		if seg.number == s.number {
			break
		}
		info, err := os.Stat(seg.path)
		if total <= s.o.Bytes && (err != nil || time.Since(info.ModTime()) < s.o.Age) {
			continue
		}
		if err := os.Remove(seg.path); err != nil {
			s.problem(err)
			continue
		}
		total -= seg.size
	}
	s.bytes.Store(total)
}
