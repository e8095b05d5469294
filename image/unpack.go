package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// unpacked is what is known of a layer after its files are on disk.
type unpacked struct {
	usage      Usage
	uids, gids []uint32
	rootMode   *os.FileMode // nil when the archive does not mention its root
	entries    int64
}

// unpacker writes one layer's archive below a directory, in overlay's own form:
// a whiteout is a device 0:0, an opaque directory has trusted.overlay.opaque.
type unpacker struct {
	tree       *tree
	split      *splitter
	maxEntries int64
	maxBytes   int64

	out     unpacked
	uids    map[uint32]bool
	gids    map[uint32]bool
	times   map[string][]unix.Timespec // of directories, set last
	logical int64
	// inherits is set once a directory with the setgid bit exists: files in it do
	// not get group 0 by themselves.
	inherits bool
	umask    int64
}

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	blockSize      = 4096
)

// unpack reads the archive to its end and writes it below dir.
func (u *unpacker) unpack(dir string, from *chunkReader) (_ unpacked, err error) {
	if u.tree, err = openTree(dir); err != nil {
		return unpacked{}, err
	}
	defer func() { err = errors.Join(err, u.tree.close()) }()
	u.uids, u.gids, u.times = map[uint32]bool{}, map[uint32]bool{}, map[string][]unix.Timespec{}
	u.out.usage.Inodes, u.out.usage.Bytes = 1, blockSize // the root
	u.split.from = from
	u.umask = processUmask()
	archive := tar.NewReader(u.split)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
				err = damaged(err) // the stream came as it was promised, or says itself what happened to it
			}
			return unpacked{}, fmt.Errorf("read layer archive: %w", err)
		}
		if u.out.entries++; u.out.entries > u.maxEntries {
			return unpacked{}, fmt.Errorf("%w: layer holds more than %d files", pod.ErrExhausted, u.maxEntries)
		}
		if err := u.entry(h); err != nil {
			return unpacked{}, fmt.Errorf("unpack %.200q: %w", h.Name, err)
		}
	}
	if err := u.split.finish(); err != nil {
		return unpacked{}, err
	}
	if err := u.setTimes(); err != nil {
		return unpacked{}, err
	}
	u.out.usage.Inodes += u.tree.made
	u.out.usage.Bytes += u.tree.made * blockSize
	for id := range u.uids {
		u.out.uids = append(u.out.uids, id)
	}
	for id := range u.gids {
		u.out.gids = append(u.out.gids, id)
	}
	slices.Sort(u.out.uids)
	slices.Sort(u.out.gids)
	return u.out, nil
}

func (u *unpacker) entry(h *tar.Header) error {
	if u.logical += max(h.Size, 0); u.logical > u.maxBytes {
		return fmt.Errorf("%w: files of the layer add up to more than %d bytes", pod.ErrExhausted, u.maxBytes)
	}
	if sparse(h) {
		return fmt.Errorf("%w: sparse file", errUncovered)
	}
	payload := int64(0)
	if h.Typeflag == tar.TypeReg {
		payload = h.Size
	}
	if h.Typeflag != tar.TypeReg && h.Size > 0 && !headerOnly(h.Typeflag) {
		return fmt.Errorf("%w: entry of type %q with %d bytes of content", errUncovered, h.Typeflag, h.Size)
	}
	if err := u.split.begin(h); err != nil {
		return err
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if name == "." {
		return u.root(h)
	}
	dir, base, err := u.tree.parent(name)
	if errors.Is(err, unix.ENOTDIR) && strings.HasPrefix(base, whiteoutPrefix) {
		return u.split.payload(payload, func([]byte) error { return nil }) // the parent itself was whited out
	}
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		if err := u.whiteout(h, dir, base); err != nil {
			return err
		}
		return u.split.payload(payload, func([]byte) error { return nil })
	}
	if h.Uid < 0 || h.Gid < 0 {
		return fmt.Errorf("%w: owner %d:%d", pod.ErrInvalid, h.Uid, h.Gid)
	}
	u.uids[uint32(h.Uid)], u.gids[uint32(h.Gid)] = true, true
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(h, dir, base)
	case tar.TypeDir:
		return u.directory(h, name, dir, base)
	case tar.TypeSymlink:
		if err := u.make(dir, base, func() error { return unix.Symlinkat(h.Linkname, dir, base) }); err != nil {
			return err
		}
		if len(h.Linkname) >= 60 { // shorter ones live in the inode
			u.out.usage.Bytes += blockSize
		}
	case tar.TypeLink:
		return u.hardLink(h, name)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		mode := uint32(h.Mode & 0o7777)
		switch h.Typeflag {
		case tar.TypeChar:
			mode |= unix.S_IFCHR
		case tar.TypeBlock:
			mode |= unix.S_IFBLK
		default:
			mode |= unix.S_IFIFO
		}
		device := int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		if err := u.make(dir, base, func() error { return unix.Mknodat(dir, base, mode, device) }); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: entry of type %q", errUncovered, h.Typeflag)
	}
	u.out.usage.Inodes++
	return u.attributes(h, dir, base)
}

// make runs create, and once more after it has cleared the place when something is there.
func (u *unpacker) make(dir int, base string, create func() error) error {
	err := create()
	if err == unix.EEXIST {
		if err = u.tree.remove(dir, base); err == nil {
			err = create()
		}
	}
	return err
}

func (u *unpacker) file(h *tar.Header, dir int, base string) error {
	var fd int
	err := u.make(dir, base, func() (err error) {
		fd, err = unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(h.Mode&0o777))
		return err
	})
	if err != nil {
		return err
	}
	err = u.split.payload(h.Size, func(b []byte) error {
		for len(b) > 0 {
			n, err := unix.Write(fd, b)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	})
	if err == nil && (h.Uid != 0 || h.Gid != 0 || u.inherits) {
		err = unix.Fchown(fd, h.Uid, h.Gid)
	}
	if err == nil && h.Mode&(0o7000|u.umask) != 0 { // what open did not give
		err = unix.Fchmod(fd, uint32(h.Mode&0o7777))
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err == nil {
		err = u.xattrs(h, procPath(dir, base))
	}
	if err == nil {
		err = setTime(dir, base, h)
	}
	u.out.usage.Inodes++
	u.out.usage.Bytes += uint64(h.Size+blockSize-1) / blockSize * blockSize
	return err
}

func (u *unpacker) directory(h *tar.Header, name string, dir int, base string) error {
	err := unix.Mkdirat(dir, base, uint32(h.Mode&0o777))
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err = unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = u.tree.remove(dir, base); err == nil {
				err = unix.Mkdirat(dir, base, uint32(h.Mode&0o777))
			}
		}
	} else if err == nil {
		u.out.usage.Inodes++
		u.out.usage.Bytes += blockSize
	}
	if err != nil {
		return err
	}
	if h.Mode&0o2000 != 0 {
		u.inherits = true
	}
	u.times[name] = timesOf(h)
	return u.attributes(h, dir, base)
}

// root gives the layer's root directory its attributes.
func (u *unpacker) root(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root of the archive is no directory", pod.ErrInvalid)
	}
	u.uids[uint32(h.Uid)], u.gids[uint32(h.Gid)] = true, true
	mode := h.FileInfo().Mode()
	u.out.rootMode = &mode
	u.times["."] = timesOf(h)
	return u.attributes(h, int(u.tree.root.Fd()), ".")
}

func (u *unpacker) hardLink(h *tar.Header, name string) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	// The target's parent first: opening it may empty the cache of directories.
	from, err := u.tree.resolve(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
	}
	defer unix.Close(from)
	dir, base, err := u.tree.parent(name)
	if err != nil {
		return err
	}
	if err := u.make(dir, base, func() error { return unix.Linkat(from, path.Base(target), dir, base, 0) }); err != nil {
		return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil // the archive's attributes are not the link's
	}
	return u.attributes(h, dir, base)
}

func (u *unpacker) whiteout(h *tar.Header, dir int, base string) error {
	if base == whiteoutOpaque {
		return unix.Setxattr(procPath(dir, "."), "trusted.overlay.opaque", []byte{'y'}, 0)
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("%w: whiteout %.80q", pod.ErrInvalid, h.Name)
	}
	if err := unix.Mknodat(dir, hidden, unix.S_IFCHR, 0); err != nil {
		return err
	}
	u.out.usage.Inodes++
	return unix.Fchownat(dir, hidden, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)
}

func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// headerOnly are the types whose size field means nothing.
func headerOnly(typeflag byte) bool {
	switch typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return true
	}
	return false
}
