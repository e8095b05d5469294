package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Figures are read again and again, and opening one of their files costs five to ten
// times as much as reading it. So the files stay open between readings. Each holds
// some 5 KiB in the kernel (the buffer of its seq_file), which is why there is a
// bound on them, and why those of a cgroup that is no longer read are closed. Nothing
// runs for it in the background: who reads closes what others left.
const (
	// maxKept bounds the descriptors: beyond it files are opened for each reading. All that
	// a scrape reads of 250 pods of a container each are 11500.
	maxKept = 12288
	// keptFor is how long a cgroup's files stay open unread. Kubelet reads every ten
	// seconds and a scraper every minute.
	keptFor = 3 * time.Minute
)

// kept are the open files of all cgroups. The zero value is ready.
type kept struct {
	mu     sync.Mutex // guards the fields below; taken after a figures' own
	groups map[string]*figures
	open   int
	swept  time.Time
}

// figures are the open files of one cgroup, whose names are unique among those that
// are read.
type figures struct {
	of   *Cgroups
	path string

	mu    sync.Mutex // guards the fields below; held for a whole reading
	files []keptFile
	// tasks tell the processes, by opened descriptors; nil when they are not open.
	tasks  *tasks
	opened int
	read   time.Time
	// missed: a file of this reading was not there.
	missed bool
	// ended: nobody finds it any more, so nothing may stay open.
	ended bool
}

type keptFile struct {
	name string
	fd   int
}

// figures starts a reading of a cgroup, which end must follow.
func (c *Cgroups) figures(fsPath string) *figures {
	k, now := &c.kept, time.Now()
	k.mu.Lock()
	f := k.groups[fsPath]
	if f == nil {
		f = &figures{of: c, path: fsPath}
		if k.groups == nil {
			k.groups, k.swept = map[string]*figures{}, now
		}
		k.groups[fsPath] = f
	}
	var unread []*figures
	if now.Sub(k.swept) > keptFor {
		k.swept = now
		for _, other := range k.groups {
			if other != f {
				unread = append(unread, other)
			}
		}
	}
	k.mu.Unlock()
	for _, other := range unread {
		other.closeUnread(now)
	}
	f.mu.Lock()
	f.read, f.missed = now, false
	return f
}

// end ends a reading. A cgroup of which nothing is open is not remembered.
func (f *figures) end() {
	defer f.mu.Unlock()
	if len(f.files) == 0 && f.tasks == nil {
		f.forget()
	}
}

// forget takes f out of the table; f.mu is held.
func (f *figures) forget() {
	f.ended = true
	f.of.kept.mu.Lock()
	defer f.of.kept.mu.Unlock()
	if f.of.kept.groups[f.path] == f {
		delete(f.of.kept.groups, f.path)
	}
}

func (f *figures) closeUnread(now time.Time) {
	if !f.mu.TryLock() { // it is being read
		return
	}
	defer f.mu.Unlock()
	if now.Sub(f.read) > keptFor {
		f.close()
	}
}

// close closes all files; f.mu is held.
func (f *figures) close() {
	for _, file := range f.files {
		unix.Close(file.fd)
	}
	f.of.kept.count(-len(f.files))
	f.files = nil
	f.closeTasks()
	f.forget()
}

// count adds n to the open descriptors and says whether that is within the bound;
// when it is not, nothing was added.
func (k *kept) count(n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n > 0 && k.open+n > maxKept {
		return false
	}
	k.open += n
	return true
}

// drop closes the files of one cgroup, after it was removed: its own, and those by which
// the cgroups above it tell its processes.
func (k *kept) drop(fsPath string) {
	var above []*figures
	k.mu.Lock()
	f := k.groups[fsPath]
	for at := path.Dir(fsPath); at != "/" && at != "."; at = path.Dir(at) {
		if g := k.groups[at]; g != nil {
			above = append(above, g)
		}
	}
	k.mu.Unlock()
	for _, g := range above {
		g.mu.Lock()
		g.closeTasks()
		g.mu.Unlock()
	}
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

// close closes everything; readings that begin later may open again.
func (k *kept) close() {
	k.mu.Lock()
	var all []*figures
	for _, f := range k.groups {
		all = append(all, f)
	}
	k.mu.Unlock()
	for _, f := range all {
		f.mu.Lock()
		f.close()
		f.mu.Unlock()
	}
}

// text returns the content of a controller's file, by the open descriptor if there is
// one. A descriptor of a cgroup that has gone tells ENODEV; the one that may have come
// in its place is opened anew. A controller that is not mounted has no files.
func (f *figures) text(controller, name string) (text string, err error) {
	defer func() { f.missed = f.missed || errors.Is(err, fs.ErrNotExist) }()
	for i, file := range f.files {
		if file.name != name {
			continue
		}
		text, err := readRecord(file.fd)
		if err == nil {
			return text, nil
		}
		unix.Close(file.fd)
		f.of.kept.count(-1)
		f.files = slices.Delete(f.files, i, i+1)
		if err != unix.ENODEV {
			return "", readError(f.dir(controller), name, err)
		}
		break
	}
	dir := f.dir(controller)
	if dir == "" {
		return "", fmt.Errorf("read %s: controller %s: %w", name, controller, fs.ErrNotExist)
	}
	fd, err := retryEINTR(func() (int, error) { return unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", readError(dir, name, err)
	}
	text, err = readRecord(fd)
	if err != nil || f.ended || !f.of.kept.count(1) {
		unix.Close(fd)
	} else {
		f.files = append(f.files, keptFile{name, fd})
	}
	if err != nil {
		return "", readError(dir, name, err)
	}
	return text, nil
}

// unified stands for a hybrid host's v2 hierarchy, where its pressure files are.
const unified = "unified"

// dir is empty when the controller is not mounted.
func (f *figures) dir(controller string) string {
	if controller == unified {
		return f.of.unifiedDir(f.path)
	}
	return f.of.dir(controller, f.path)
}
