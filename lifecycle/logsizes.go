package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The space that logs take is not what was written: kubelet rotates, compresses and removes
// them. So it is looked at, when somebody asks and at most every logSizesAge. A log's file
// system may not answer for hours, which must neither keep the asker nor be told as a figure.
const (
	// logSizesAge is how old a figure may be before it is looked at anew.
	logSizesAge = 10 * time.Second
	// logSizesStale is how old a figure may be and still be told.
	logSizesStale = 5 * time.Minute
	// logSizesWait bounds how long an asker waits for a look.
	logSizesWait = time.Second
	// maxLogFiles bounds the names that are read of a container's log directory; kubelet
	// leaves five by default.
	maxLogFiles = 256
)

// logSizes is the last figure. The zero value has none.
type logSizes struct {
	mu      sync.Mutex // guards all
	bytes   uint64
	at      time.Time     // zero: never
	looking chan struct{} // closed when the look under way is over; nil without one
}

// LogBytes is the disk space of the logs of all containers that there are, with what
// rotation has left beside them. It is not known where the file system has not answered for
// logSizesStale, or not yet.
func (m *Manager) LogBytes() (bytes uint64, known bool) {
	return m.logSizes.get(func() []string {
		var paths []string
		for _, e := range m.index.allContainers() {
			if path := e.value.Load().LogPath; path != "" {
				paths = append(paths, path)
			}
		}
		return paths
	}, logSpace)
}

// get looks at paths by space, unless the figure is young or a look is under way.
func (l *logSizes) get(paths func() []string, space func(path string) uint64) (bytes uint64, known bool) {
	l.mu.Lock()
	looking := l.looking
	if looking == nil && (l.at.IsZero() || time.Since(l.at) >= logSizesAge) {
		looking = make(chan struct{})
		l.looking = looking
		logs := paths()
		// Nobody waits for it when the daemon ends: a file system can hold it for ever, and it
		// changes nothing. There is never a second one.
		go func() {
			var sum uint64
			for _, path := range logs {
				sum += space(path)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.bytes, l.at, l.looking = sum, time.Now(), nil
			close(looking)
		}()
	}
	l.mu.Unlock()
	if looking != nil {
		select {
		case <-looking:
		case <-time.After(logSizesWait):
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes, !l.at.IsZero() && time.Since(l.at) < logSizesStale
}

// logSpace is the disk space of a log and of its rotated forebears, which kubelet names
// LOG.TIME and LOG.TIME.gz. What cannot be read takes none: it is being removed, mostly.
func logSpace(path string) (bytes uint64) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxLogFiles) // as far as it can be read
	for _, name := range names {
		base := filepath.Base(path)
		if name != base && !strings.HasPrefix(name, base+".") {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			bytes += uint64(st.Blocks) * 512 // of which stat(2) counts them, on every file system
		}
	}
	return bytes
}
