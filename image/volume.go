package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// An image volume is an image mounted read-only for a container of another image. It
// is kept as a writable layer is, in the same directory and with the same record, so
// that the image stays while it is mounted, also over a restart; it has no layer to
// write to. Its name is the container's with "-v" and the place of its mount behind,
// so that the record of the container alone says which volumes there can be.
const volumeMark = "-v"

// VolumeID names the volume of a container's mount number i, for a RootfsRequest.
func VolumeID(container string, i int) string { return fmt.Sprintf("%s%s%d", container, volumeMark, i) }

// VolumeOwner is the container that a name out of Rootfses belongs to: of a volume
// the one in its name, of anything else the name itself.
func VolumeOwner(id string) string {
	owner, _, _ := strings.Cut(id, volumeMark)
	return owner
}

// CreateVolume mounts an image read-only under req.ID, which VolumeID made, and
// returns where. RemoveRootfs takes it away. Errors are those of CreateRootfs.
func (s *Store) CreateVolume(ctx context.Context, req RootfsRequest) (_ Rootfs, err error) {
	ctx, span := telemetry.Start(ctx, "image.volume.create", attribute.String("container.id", VolumeOwner(req.ID)), attribute.String("container.image.id", req.ImageID))
	defer span.End(&err)
	return s.create(ctx, req, true)
}

// mountVolume mounts overlay without a writable layer; programs of the image may be
// executed, unless kubelet asks for noexec in the mount's options. Overlay wants at least two
// directories then (Documentation/filesystems/overlayfs.rst, "Multiple lower
// layers"): the volume's own empty one is the lowest.
func (s *Store) mountVolume(id string, lowers []string, label string) error {
	none, merged := s.rootfsPath(id, "upper"), s.rootfsPath(id, "merged")
	lowers = append(lowers, none)
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
	return withOverlayOptions(lowers, func(paths []string) string {
		return formatLabel("lowerdir="+strings.Join(paths, ":"), label)
	}, func(options string) error { return unix.Mount("overlay", merged, "overlay", flags, options) })
}

// SubPath finds a path inside a mounted volume; symbolic links of the image are
// resolved inside it (openat2(2), RESOLVE_IN_ROOT). The tree cannot change, so the
// answer stays right. What is not there is pod.ErrNotFound.
func (r Rootfs) SubPath(path string) (string, error) {
	if path == "" {
		return r.Path, nil
	}
	root, err := os.OpenFile(r.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return "", fmt.Errorf("%w: path %q in the image", pod.ErrNotFound, path)
	}
	if err != nil {
		return "", fmt.Errorf("find path %q in the image: %w", path, err)
	}
	defer unix.Close(fd)
	found, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	if found != r.Path && !strings.HasPrefix(found, filepath.Clean(r.Path)+"/") {
		return "", fmt.Errorf("%w: path %q leads out of the image", pod.ErrInvalid, path)
	}
	return found, nil
}
