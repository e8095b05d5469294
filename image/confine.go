package image

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// tree creates files below one directory and never outside it: every directory is
// opened by openat2 with RESOLVE_IN_ROOT, so that symbolic links, "..", and "/" of an
// archive mean what they mean inside the container, and every last path element is
// created without following anything.
type tree struct {
	root *os.File
	// dirs are open directories by cleaned path. They stay right because nothing but
	// this tree changes what is below root; removals empty the cache.
	dirs map[string]int
	// stale are descriptors that the cache has forgotten; a caller may still hold one
	// until it asks for the next.
	stale []int
	made  uint64 // directories that parent made
}

// maxOpenDirs bounds the cache of directories.
const maxOpenDirs = 64

func openTree(dir string) (*tree, error) {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &tree{root: root, dirs: map[string]int{}}, nil
}

func (t *tree) close() error {
	t.forgetDirs()
	t.closeStale()
	return t.root.Close()
}

func (t *tree) forgetDirs() {
	for _, fd := range t.dirs {
		t.stale = append(t.stale, fd)
	}
	clear(t.dirs)
}

func (t *tree) closeStale() {
	for _, fd := range t.stale {
		unix.Close(fd)
	}
	t.stale = t.stale[:0]
}

// cleanName makes an archive's name relative to the root. Names that climb out are
// refused, as containers/storage does; the root itself is ".".
func cleanName(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: name %.80q in layer", pod.ErrInvalid, name)
	}
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%w: name %.80q in layer leads out of it", pod.ErrInvalid, name)
	}
	if clean = strings.TrimLeft(clean, "/"); clean == "" {
		clean = "."
	}
	return clean, nil
}

// openDir opens a directory for use as parent; the descriptor belongs to the tree
// and is valid until the next call.
func (t *tree) openDir(name string) (int, error) {
	t.closeStale()
	if name == "." || name == "" {
		return int(t.root.Fd()), nil
	}
	if fd, known := t.dirs[name]; known {
		return fd, nil
	}
	fd, err := t.resolve(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	if len(t.dirs) >= maxOpenDirs {
		t.forgetDirs()
	}
	t.dirs[name] = fd
	return fd, nil
}

// resolve opens a path as it looks from inside the root.
func (t *tree) resolve(name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	for {
		fd, err := unix.Openat2(int(t.root.Fd()), name, &how)
		if err == unix.EINTR || err == unix.EAGAIN { // EAGAIN: something was renamed during the walk
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "openat2", Path: name, Err: err}
		}
		return fd, nil
	}
}

// parent opens the directory in which name shall be created, with missing
// directories made on the way as containers/storage makes them: mode 0755, root's.
func (t *tree) parent(name string) (dir int, base string, err error) {
	parent, base := path.Dir(name), path.Base(name)
	dir, err = t.openDir(parent)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return dir, base, err
	}
	elements := strings.Split(parent, "/")
	for i := range elements {
		sub := strings.Join(elements[:i+1], "/")
		dir, err = t.openDir(sub)
		if err == nil {
			continue
		}
		if !errors.Is(err, unix.ENOENT) {
			return -1, "", err
		}
		above, err := t.openDir(strings.Join(elements[:i], "/"))
		if err != nil {
			return -1, "", err
		}
		if err := unix.Mkdirat(above, elements[i], 0o755); err != nil {
			if err == unix.EEXIST { // a dangling link: the library resolves it by the string
				err = errUncovered
			}
			return -1, "", fmt.Errorf("make directory %q: %w", sub, err)
		}
		if err := unix.Fchmodat(above, elements[i], 0o755, 0); err != nil {
			return -1, "", fmt.Errorf("make directory %q: %w", sub, err)
		}
		t.made++
		if dir, err = t.openDir(sub); err != nil {
			return -1, "", err
		}
	}
	return dir, base, nil
}

// remove deletes base in dir with all below it. Cached directories may be among it or
// have been reached through it.
func (t *tree) remove(dir int, base string) error {
	t.forgetDirs()
	err := unix.Unlinkat(dir, base, 0)
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	sub, err := os.OpenRoot(procPath(dir, "."))
	if err != nil {
		return err
	}
	defer sub.Close()
	return sub.RemoveAll(base)
}

// procPath names base in the open directory dir for calls that take only paths. The
// first part is a link that this process made; what follows is one plain name.
func procPath(dir int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + base
}
