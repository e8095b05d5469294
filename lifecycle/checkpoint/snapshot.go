package checkpoint

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// An archive that is restored is not trusted. What is taken from it: criu's images as
// plain files in one directory, the changed files (image.ApplyChanges confines them),
// and from config.dump and spec.dump what the request is compared with. Everything else is passed
// over. Nothing is compressed, so that nothing can become larger than the archive itself.

// Bounds of what is read from an archive.
const (
	maxArchives    = 256 // archives of a pod
	maxDocument    = 16 << 20
	maxDescriptors = 3 // stdin, stdout, stderr
)

// MaxParts bounds the entries of an archive.
const MaxParts = 100_000

// Suffix ends the names of a pod's archives, those that Open looks at.
const Suffix = ".tar"

// Snapshot is one container's archive, opened; CloseAll closes its file.
type Snapshot struct {
	file   *os.File
	size   int64
	config dumpedConfig
	spec   specs.Spec
}

// Open reads what the archives in dir are of, by container name. They are the caller's to close.
// What is no archive of a checkpoint is pod.ErrInvalid, what is too large pod.ErrExhausted.
func Open(ctx context.Context, dir string) (_ map[string]*Snapshot, err error) {
	found := map[string]*Snapshot{}
	defer func() {
		if err != nil {
			CloseAll(found)
			err = fmt.Errorf("read checkpoint: %w", err)
		}
	}()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pod.ErrInvalid, err)
	}
	if len(entries) > maxArchives {
		return nil, fmt.Errorf("%w: %d files, at most %d", pod.ErrExhausted, len(entries), maxArchives)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), Suffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		s, err := openSnapshot(ctx, filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("%.100q: %w", e.Name(), err)
		}
		if other := found[s.config.Name]; other != nil {
			s.file.Close()
			return nil, fmt.Errorf("%w: two archives of container %.100q", pod.ErrInvalid, s.config.Name)
		}
		found[s.config.Name] = s
	}
	return found, nil
}

// CloseAll closes what Open has returned.
func CloseAll(all map[string]*Snapshot) {
	for _, s := range all {
		s.file.Close()
	}
}

// openSnapshot reads config.dump and spec.dump.
func openSnapshot(ctx context.Context, path string) (_ *Snapshot, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pod.ErrInvalid, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", pod.ErrInvalid)
	}
	s := &Snapshot{file: f, size: info.Size()}
	return s, s.describe(ctx)
}

// Image is the ID of the image that the container was made from, as the archive says.
func (s *Snapshot) Image() string { return s.config.RootfsImage }

func (s *Snapshot) describe(ctx context.Context) error {
	wanted := map[string]any{configDump: &s.config, specDump: &s.spec}
	err := s.each(ctx, func(h *tar.Header, content io.Reader) error {
		into := wanted[h.Name]
		if into == nil {
			return nil
		}
		delete(wanted, h.Name)
		return readDocument(h, content, into)
	})
	switch {
	case err != nil:
		return err
	case len(wanted) > 0:
		return fmt.Errorf("%w: config.dump or spec.dump is missing", pod.ErrInvalid)
	case s.config.Name == "":
		return fmt.Errorf("%w: config.dump names no container", pod.ErrInvalid)
	case s.spec.Process == nil || s.spec.Root == nil || s.spec.Linux == nil:
		return fmt.Errorf("%w: spec.dump is incomplete", pod.ErrInvalid)
	}
	return nil
}

// each calls visit for every entry of the archive, from its beginning. Names come without
// "./" before them.
func (s *Snapshot) each(ctx context.Context, visit func(*tar.Header, io.Reader) error) error {
	archive := tar.NewReader(io.NewSectionReader(s.file, 0, s.size))
	for n := 0; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: it is no plain tar archive: %w", pod.ErrInvalid, err)
		}
		if n == MaxParts {
			return fmt.Errorf("%w: more than %d entries", pod.ErrExhausted, MaxParts)
		}
		h.Name = strings.TrimPrefix(h.Name, "./")
		if h.Size < 0 || h.Size > s.size { // a sparse file would be larger than the archive
			return fmt.Errorf("%w: %.100q is larger than the archive that it is in", pod.ErrInvalid, h.Name)
		}
		if err := visit(h, archive); err != nil {
			return fmt.Errorf("%.100q: %w", h.Name, err)
		}
	}
}

// readDocument parses a part that is JSON.
func readDocument(h *tar.Header, content io.Reader, into any) error {
	if h.Typeflag != tar.TypeReg || h.Size > maxDocument {
		return fmt.Errorf("%w: want a file of at most %d bytes", pod.ErrInvalid, maxDocument)
	}
	raw, err := io.ReadAll(content)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", pod.ErrInvalid, err)
	}
	return nil
}

// Unpack writes criu's images and the archive of changes into work, where they exist only
// afterwards, and returns the list of deleted files. Errors are Open's.
func (s *Snapshot) Unpack(ctx context.Context, work Work) (deleted []string, err error) {
	images := work.Images()
	if err := os.Mkdir(images, 0o700); err != nil {
		return nil, err
	}
	left := s.size
	store := func(h *tar.Header, content io.Reader, path string) error {
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("%w: it is no regular file", pod.ErrInvalid)
		}
		if left -= h.Size; left < 0 { // sparse ones again, several of them
			return fmt.Errorf("%w: the parts are larger than the archive", pod.ErrInvalid)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%w: it is there twice", pod.ErrInvalid)
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	found := map[string]bool{}
	err = s.each(ctx, func(h *tar.Header, content io.Reader) error {
		found[h.Name] = true
		name, isImage := strings.CutPrefix(h.Name, imagesDir+"/")
		switch {
		case isImage && name == "":
			return nil
		case isImage && (strings.Contains(name, "/") || strings.HasPrefix(name, ".") || len(name) > 200):
			return fmt.Errorf("%w: criu's images are plain files in one directory", pod.ErrInvalid)
		case isImage:
			return store(h, content, filepath.Join(images, name))
		case h.Name == rootfsDiff:
			return store(h, content, work.Changes())
		case h.Name == deletedFiles:
			return readDocument(h, content, &deleted)
		}
		return nil
	})
	if err == nil && !found[imagesDir+"/inventory.img"] {
		err = fmt.Errorf("%w: there are no images of processes", pod.ErrInvalid)
	}
	if err == nil {
		err = checkDescriptors(filepath.Join(images, "descriptors.json"))
	}
	return deleted, err
}

// checkDescriptors looks at the list from which libcontainer and runtimes take which of
// their own descriptors the processes inherit: more than the three standard streams would be
// the runtime's private ones.
func checkDescriptors(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: descriptors.json: %w", pod.ErrInvalid, err)
	}
	var streams []string
	if err := json.Unmarshal(raw, &streams); err != nil {
		return fmt.Errorf("%w: descriptors.json: %w", pod.ErrInvalid, err)
	}
	if len(streams) > maxDescriptors {
		return fmt.Errorf("%w: descriptors.json names %d standard streams", pod.ErrInvalid, len(streams))
	}
	return nil
}
