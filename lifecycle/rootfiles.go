package lifecycle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// resolveUser reads the image's users and groups, inside its root and bounded, and
// merges them with the request.
func resolveUser(rootfs string, sb pod.Sandbox, config *runtime.ContainerConfig, imageUser string) (pod.User, error) {
	passwd, err := openInRoot(rootfs, "etc/passwd")
	if err != nil {
		return pod.User{}, err
	}
	defer passwd.Close()
	group, err := openInRoot(rootfs, "etc/group")
	if err != nil {
		return pod.User{}, err
	}
	defer group.Close()
	return spec.ResolveUser(passwd, group, imageUser, config.GetLinux().GetSecurityContext())
}

// openInRoot opens a regular file of a hostile tree: links are resolved inside it
// (openat2(2), RESOLVE_IN_ROOT). A missing file reads as empty.
func openInRoot(root, path string) (io.ReadCloser, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root file system: %w", err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of the image: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%w: %s of the image is no regular file", pod.ErrInvalid, path)
	}
	return f, nil
}

// makeVolumes makes the directories of the image's VOLUME lines, in the writable layer.
func makeVolumes(rootfs string, volumes map[string]struct{}) error {
	if len(volumes) == 0 {
		return nil
	}
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return fmt.Errorf("open root file system: %w", err)
	}
	defer root.Close()
	for path := range volumes {
		local := strings.TrimPrefix(filepath.Clean("/"+path), "/")
		if local == "" {
			continue
		}
		if err := root.MkdirAll(local, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: volume %q of the image: %w", pod.ErrInvalid, path, host.RootCause(err))
		}
	}
	return nil
}
