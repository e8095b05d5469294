package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Scratch makes, beside the writable layer and as private as that, a directory that is
// removed with it, and returns its path. What was there under the name is removed. Without the
// layer it is pod.ErrNotFound.
func (s *Store) Scratch(id, name string) (string, error) {
	if _, err := s.readRootfs(id); err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	dir := s.rootfsPath(id, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	return dir, nil
}

// SaveChanges writes what the container has created or changed in its root file system as
// a tar archive without whiteouts; deleted are the paths that are in the image and gone
// from the root file system, relative to its root. Nothing may write there meanwhile.
// Sockets are left out: an archive has no such entry, and nobody listens at a copy.
func (s *Store) SaveChanges(ctx context.Context, id string, to io.Writer) (deleted []string, err error) {
	ctx, span := telemetry.Start(ctx, "image.rootfs.save", attribute.String("container.id", id))
	defer span.End(&err)
	record, err := s.readRootfs(id)
	if err != nil {
		return nil, fmt.Errorf("save changes: %w", err)
	}
	lowers, err := s.lowerDirs(record)
	if err != nil {
		return nil, fmt.Errorf("save changes of %s: %w", id, err)
	}
	c := &saver{ctx: ctx, upper: s.rootfsPath(id, "upper"), lowers: lowers, to: tar.NewWriter(to), links: map[uint64]string{}}
	if err := c.dir(".", false); err != nil {
		return nil, fmt.Errorf("save changes of %s: %w", id, err)
	}
	if err := c.to.Close(); err != nil {
		return nil, fmt.Errorf("save changes of %s: %w", id, err)
	}
	return c.deleted, nil
}

// saver walks an upper directory of overlayfs.
type saver struct {
	ctx     context.Context
	upper   string
	lowers  []string
	to      *tar.Writer
	links   map[uint64]string // first name by inode, of files with several
	deleted []string
}

// dir saves what is in a directory. Hidden: nothing of the image shows below it.
func (c *saver) dir(name string, hidden bool) error {
	entries, err := os.ReadDir(filepath.Join(c.upper, name))
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for _, e := range entries {
		present[e.Name()] = true
		if err := c.entry(path.Join(name, e.Name()), hidden); err != nil {
			return err
		}
	}
	if !hidden {
		return nil
	}
	for _, lower := range c.lowers {
		below, err := os.ReadDir(filepath.Join(lower, name))
		if err != nil {
			continue // this layer has no such directory
		}
		for _, e := range below {
			if gone := path.Join(name, e.Name()); !present[e.Name()] && !slices.Contains(c.deleted, gone) {
				c.deleted = append(c.deleted, gone)
			}
		}
	}
	return nil
}

func (c *saver) entry(name string, hidden bool) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	full := filepath.Join(c.upper, name)
	info, err := os.Lstat(full)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case mode&os.ModeCharDevice != 0 && st.Rdev == 0: // a whiteout
		c.deleted = append(c.deleted, name)
		return nil
	case mode&os.ModeSocket != 0:
		return nil
	case mode.IsDir():
		if err := c.header(name, full, info, st); err != nil {
			return err
		}
		return c.dir(name, hidden || opaque(full))
	case !mode.IsRegular():
		return c.header(name, full, info, st)
	}
	if st.Nlink > 1 {
		if first, known := c.links[st.Ino]; known {
			return c.to.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first, ModTime: info.ModTime(),
				Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), Format: tar.FormatPAX})
		}
		c.links[st.Ino] = name
	}
	if err := c.header(name, full, info, st); err != nil {
		return err
	}
	f, err := os.Open(full)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(c.to, f, info.Size())
	return err
}

// header writes an entry's header, extended attributes in it except those that are
// overlayfs's own or belong to this host's policy.
func (c *saver) header(name, full string, info os.FileInfo, st *syscall.Stat_t) error {
	target := ""
	if info.Mode()&os.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(full); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	if info.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.PAXRecords = int(st.Uid), int(st.Gid), map[string]string{}
	names, err := listXattrs(full)
	if err != nil {
		return err
	}
	for _, key := range names {
		if key == "security.selinux" || strings.HasPrefix(key, "trusted.overlay.") {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(full, key, value)
		if err != nil {
			return fmt.Errorf("read attribute %q of %s: %w", key, name, err)
		}
		h.PAXRecords["SCHILY.xattr."+key] = string(value[:n])
	}
	return c.to.WriteHeader(h)
}

func listXattrs(path string) ([]string, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes of %s: %w", path, err)
	}
	return slices.DeleteFunc(strings.Split(string(list[:n]), "\x00"), func(s string) bool { return s == "" }), nil
}

// opaque directories show nothing of the layers below (overlayfs.rst, "whiteouts and
// opaque directories").
func opaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
