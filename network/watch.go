package network

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A change is read once things have been quiet for settle, or have not been for
// maxUnsettled: an installer writes several files, an editor several times.
const (
	settle       = 50 * time.Millisecond
	maxUnsettled = 500 * time.Millisecond
)

// watch reads the directory again after every change of it until ctx ends. While the
// directory does not exist, its nearest existing ancestor is watched for its coming.
// Where no watch can be had (inotify limits), snapshot reads on demand instead.
func (d *confDir) watch(ctx context.Context) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		slog.WarnContext(ctx, "CNI configuration is read at each use instead of being watched", "dir", d.dir, "err", err)
		return
	}
	defer w.Close()
	d.arm(ctx, w)
	d.load(ctx) // what changed between the first reading and the watch

	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	var unsettled time.Time // zero: nothing to read
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-w.Events:
			if !open {
				return
			}
			if event.Op == fsnotify.Chmod && filepath.Dir(event.Name) != d.dir {
				continue
			}
		case err, open := <-w.Errors:
			if !open {
				return
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				slog.WarnContext(ctx, "watching CNI configuration", "dir", d.dir, "err", err)
			}
		case <-quiet.C:
			unsettled = time.Time{}
			d.arm(ctx, w)
			d.load(ctx)
			continue
		}
		if unsettled.IsZero() {
			unsettled = time.Now()
		}
		quiet.Reset(max(0, min(settle, maxUnsettled-time.Since(unsettled))))
	}
}

// arm sets the watches anew. A directory may come or go between looking and
// watching, so it looks again until nothing has changed.
func (d *confDir) arm(ctx context.Context, w *fsnotify.Watcher) {
	ok := false
	for range 10 {
		wanted := d.wanted()
		if ok = len(wanted) > 0 && watchExactly(ctx, w, wanted); !ok || slices.Equal(wanted, d.wanted()) {
			break
		}
	}
	d.mu.Lock()
	d.watched = ok
	d.mu.Unlock()
}

// wanted lists what is to be watched: the directory and its sub-directories, or the
// nearest ancestor that exists.
func (d *confDir) wanted() []string {
	dir := d.dir
	for info, err := os.Stat(dir); err != nil || !info.IsDir(); info, err = os.Stat(dir) {
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
	list := []string{dir}
	if dir != d.dir {
		return list
	}
	entries, _ := os.ReadDir(dir) // sorted; what cannot be read is not watched
	for _, e := range entries[:min(len(entries), maxConfFiles)] {
		if e.IsDir() {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// watchExactly makes the watches those of the list; one that is there already stays.
func watchExactly(ctx context.Context, w *fsnotify.Watcher, list []string) bool {
	for _, have := range w.WatchList() {
		if !slices.Contains(list, have) {
			w.Remove(have) // fails only when the watch is gone already
		}
	}
	for _, dir := range list {
		if err := w.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.WarnContext(ctx, "CNI configuration is read at each use instead of being watched", "dir", dir, "err", err)
			return false
		}
	}
	return true
}
