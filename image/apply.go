package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// ChangesLimit bounds what ApplyChanges takes from an archive.
type ChangesLimit struct {
	// Entries and Bytes are those of the archive's files, deleted ones counted as entries.
	Entries, Bytes int64
}

// ApplyChanges is the inverse of SaveChanges, on a writable layer that is mounted and
// that nothing uses yet. The archive is not trusted: nothing outside the root file system
// is touched, whatever names and links say; device nodes, whiteouts and types that
// SaveChanges does not write are pod.ErrInvalid, more than the limit pod.ErrExhausted.
func (s *Store) ApplyChanges(ctx context.Context, id string, from io.Reader, deleted []string, limit ChangesLimit) (err error) {
	ctx, span := telemetry.Start(ctx, "image.rootfs.apply", attribute.String("container.id", id))
	defer span.End(&err)
	if err := checkRootfsID(id); err != nil {
		return err
	}
	return applyChanges(ctx, s.rootfsPath(id, "merged"), from, deleted, limit)
}

func applyChanges(ctx context.Context, root string, from io.Reader, deleted []string, limit ChangesLimit) error {
	t, err := openTree(root)
	if err != nil {
		return fmt.Errorf("apply changes: %w", err)
	}
	a := &applier{unpacker: unpacker{tree: t, times: map[string][]unix.Timespec{}}, limit: limit}
	err = a.run(ctx, from, deleted)
	if err = errors.Join(err, t.close()); err != nil {
		return fmt.Errorf("apply changes: %w", err)
	}
	return nil
}

// applier is an unpacker of a container's changes: there are no layers and no whiteouts.
type applier struct {
	unpacker
	limit          ChangesLimit
	entries, bytes int64
}

func (a *applier) run(ctx context.Context, from io.Reader, deleted []string) error {
	archive := tar.NewReader(from)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: read archive: %w", pod.ErrInvalid, err)
		}
		if err := a.count(ctx, max(h.Size, 0)); err != nil {
			return err
		}
		if err := a.entry(h, archive); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
	for _, name := range deleted {
		if err := a.count(ctx, 0); err != nil {
			return err
		}
		if err := a.remove(name); err != nil {
			return fmt.Errorf("delete %.200q: %w", name, err)
		}
	}
	return a.setTimes()
}

// count refuses what exceeds the limit.
func (a *applier) count(ctx context.Context, bytes int64) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if a.entries++; a.entries > a.limit.Entries {
		return fmt.Errorf("%w: more than %d changed files", pod.ErrExhausted, a.limit.Entries)
	}
	if a.bytes += bytes; a.bytes > a.limit.Bytes {
		return fmt.Errorf("%w: changed files add up to more than %d bytes", pod.ErrExhausted, a.limit.Bytes)
	}
	return nil
}

func (a *applier) entry(h *tar.Header, content io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." || sparse(h) || h.Uid < 0 || h.Gid < 0 || h.Uid > 1<<32-2 || h.Gid > 1<<32-2 || strings.HasPrefix(path.Base(name), whiteoutPrefix) {
		return fmt.Errorf("%w: no entry of this kind belongs into an archive of changes", pod.ErrInvalid)
	}
	dir, base, err := a.tree.parent(name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return a.regular(h, dir, base, content)
	case tar.TypeDir:
		return a.directory(h, name, dir, base)
	case tar.TypeLink:
		return a.hardLink(h, name)
	case tar.TypeSymlink:
		err = a.make(dir, base, func() error { return unix.Symlinkat(h.Linkname, dir, base) })
	case tar.TypeFifo:
		err = a.make(dir, base, func() error { return unix.Mknodat(dir, base, unix.S_IFIFO|0o600, 0) })
	default:
		err = fmt.Errorf("%w: entry of type %q", pod.ErrInvalid, h.Typeflag)
	}
	if err != nil {
		return err
	}
	return a.attributes(h, dir, base)
}

func (a *applier) regular(h *tar.Header, dir int, base string, content io.Reader) error {
	fd := -1
	err := a.make(dir, base, func() (err error) {
		fd, err = unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	n, err := io.Copy(fdWriter(fd), content)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	return a.attributes(h, dir, base)
}

// remove deletes what the image has and the container had not; absence is success.
func (a *applier) remove(name string) error {
	clean, err := cleanName(name)
	if err != nil || clean == "." {
		return errors.Join(err, fmt.Errorf("%w: it names no file", pod.ErrInvalid))
	}
	dir, err := a.tree.openDir(path.Dir(clean))
	if err == nil {
		err = a.tree.remove(dir, path.Base(clean))
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// fdWriter writes to a descriptor that it does not own.
type fdWriter int

func (w fdWriter) Write(p []byte) (done int, err error) {
	for done < len(p) {
		n, err := unix.Write(int(w), p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
