package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// A writable layer lives in a directory of its own and is known by nothing else, so
// that making one takes no lock of the store and rewrites no list:
//
//	STORAGE/rootfs/
//	├── empty/        the lower layer of images without layers
//	└── ID/
//	    ├── record    image, layers, label, maps; written first
//	    ├── upper/    empty for a volume
//	    ├── work/
//	    └── merged/   where the root file system is mounted
//
// A directory without a record is half made; a directory .gone-ID is half removed.

// RootfsRequest asks for a root file system.
type RootfsRequest struct {
	// ID names it: up to 128 letters, digits, '_', '-' and '.', not beginning with '.'.
	ID string
	// ImageID is Image.ID.
	ImageID string
	// MountLabel is the SELinux label of its files; empty for none.
	MountLabel string
	// UIDMaps and GIDMaps are those of the container's user namespace; empty for none.
	UIDMaps, GIDMaps []IDMap
}

// IDMap maps Size IDs from ContainerID on to those from HostID on.
type IDMap struct {
	ContainerID uint32 `json:"containerId"`
	HostID      uint32 `json:"hostId"`
	Size        uint32 `json:"size"`
}

// Rootfs is a mounted root file system.
type Rootfs struct {
	// Path is absolute.
	Path string
}

// rootfsRecord is what is kept of a request. Layers are IDs, topmost first.
type rootfsRecord struct {
	Version    int      `json:"version"`
	Image      string   `json:"image"`
	Layers     []string `json:"layers"`
	MountLabel string   `json:"mountLabel,omitempty"`
	UIDMaps    []IDMap  `json:"uidMaps,omitempty"`
	GIDMaps    []IDMap  `json:"gidMaps,omitempty"`
	// Volume: it is read-only, see volume.go. A build that does not know the field
	// only removes such a directory.
	Volume bool `json:"volume,omitempty"`
}

func (s *Store) rootfsDir() string { return filepath.Join(s.config.Root, "rootfs") }

func (s *Store) rootfsPath(id, part string) string {
	return filepath.Join(s.config.Root, "rootfs", id, part)
}

// CreateRootfs makes a writable layer on an image and mounts it. An ID that exists is
// pod.ErrExists, an unknown image pod.ErrNotFound. On an error nothing is left.
func (s *Store) CreateRootfs(ctx context.Context, req RootfsRequest) (_ Rootfs, err error) {
	ctx, span := telemetry.Start(ctx, "image.rootfs.create", attribute.String("container.id", req.ID), attribute.String("container.image.id", req.ImageID))
	defer span.End(&err)
	return s.create(ctx, req, false)
}

// create makes a writable layer, or a volume, which has none.
func (s *Store) create(ctx context.Context, req RootfsRequest, volume bool) (Rootfs, error) {
	if err := checkRootfsID(req.ID); err != nil {
		return Rootfs{}, err
	}
	img, found := s.catalog.byID(req.ImageID)
	if !found {
		if err := s.fresh(); err != nil {
			return Rootfs{}, fmt.Errorf("create root file system %s: %w", req.ID, err)
		}
		if img, found = s.catalog.byID(req.ImageID); !found {
			return Rootfs{}, fmt.Errorf("create root file system %s: %w: image %s", req.ID, pod.ErrNotFound, req.ImageID)
		}
	}
	if err := s.rootfs.add(req.ID, img.ID); err != nil {
		return Rootfs{}, fmt.Errorf("create root file system %s: %w", req.ID, err)
	}
	record := rootfsRecord{Version: 1, Image: img.ID, Layers: img.layers, MountLabel: req.MountLabel, UIDMaps: req.UIDMaps, GIDMaps: req.GIDMaps, Volume: volume}
	path, err := s.makeRootfs(ctx, req.ID, record)
	if err != nil {
		// Undo in any case, also when ctx has ended.
		return Rootfs{}, errors.Join(fmt.Errorf("create root file system %s: %w", req.ID, err), s.removeRootfs(req.ID))
	}
	return Rootfs{Path: path}, nil
}

func (s *Store) makeRootfs(ctx context.Context, id string, record rootfsRecord) (string, error) {
	raw, err := json.Marshal(record)
	if err != nil {
		return "", err
	}
	// Only the container's root may pass: other users of the host would find the
	// image's set-user-id programs behind it (CVE-2021-41103).
	if err := os.Mkdir(s.rootfsPath(id, ""), 0o700); err != nil {
		return "", err
	}
	if uid, gid := mappedRoot(record.UIDMaps), mappedRoot(record.GIDMaps); uid != 0 || gid != 0 {
		if err := os.Chown(s.rootfsPath(id, ""), uid, gid); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(s.rootfsPath(id, "record"), raw, 0o600); err != nil {
		return "", err
	}
	root, err := s.lowerRoot(record)
	if err != nil {
		return "", err
	}
	for _, dir := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(s.rootfsPath(id, dir), 0o755); err != nil {
			return "", err
		}
	}
	if err := root.copyTo(s.rootfsPath(id, "upper"), record); err != nil {
		return "", err
	}
	return s.mountRootfs(ctx, id, record)
}

// mappedRoot is the host's id of the container's id 0.
func mappedRoot(maps []IDMap) int {
	for _, m := range maps {
		if m.ContainerID == 0 {
			return int(m.HostID)
		}
	}
	return 0
}

// MountRootfs mounts a writable layer that exists and returns where; when it is
// mounted already, it only returns where. Unknown: pod.ErrNotFound.
func (s *Store) MountRootfs(ctx context.Context, id string) (path string, err error) {
	record, err := s.readRootfs(id)
	if err != nil {
		return "", fmt.Errorf("mount root file system: %w", err)
	}
	if mounted, err := isMountpoint(s.rootfsPath(id, "merged")); err != nil {
		return "", fmt.Errorf("mount root file system %s: %w", id, err)
	} else if mounted {
		return s.rootfsPath(id, "merged"), nil
	}
	if path, err = s.mountRootfs(ctx, id, record); err != nil {
		return "", fmt.Errorf("mount root file system %s: %w", id, err)
	}
	return path, nil
}

// UnmountRootfs unmounts it; absent or not mounted is success. Processes that still
// use the mount keep what they have open.
func (s *Store) UnmountRootfs(ctx context.Context, id string) (err error) {
	_, span := telemetry.Start(ctx, "image.rootfs.unmount", attribute.String("container.id", id))
	defer span.End(&err)
	if err := checkRootfsID(id); err != nil {
		return err
	}
	if err := unmount(s.rootfsPath(id, "merged")); err != nil {
		return fmt.Errorf("unmount root file system %s: %w", id, err)
	}
	return nil
}

// RemoveRootfs unmounts and deletes a writable layer; absent is success. It is
// finished even when ctx ends.
func (s *Store) RemoveRootfs(ctx context.Context, id string) (err error) {
	_, span := telemetry.Start(ctx, "image.rootfs.remove", attribute.String("container.id", id))
	defer span.End(&err)
	if err := checkRootfsID(id); err != nil {
		return err
	}
	freed := s.rootfs.bytes(id)
	if err := s.removeRootfs(id); err != nil {
		return fmt.Errorf("remove root file system %s: %w", id, err)
	}
	span.Set(telemetry.KeyFreedBytes.Int64(int64(freed)))
	return nil
}

func (s *Store) removeRootfs(id string) error {
	if err := unmount(s.rootfsPath(id, "merged")); err != nil {
		return err
	}
	gone := filepath.Join(s.rootfsDir(), ".gone-"+id)
	if err := os.Rename(s.rootfsPath(id, ""), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.rootfs.drop(id)
	return os.RemoveAll(gone)
}

// Rootfses are the IDs of all writable layers, half-made ones included, in their order as text.
func (s *Store) Rootfses(ctx context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.rootfsDir())
	if err != nil {
		return nil, fmt.Errorf("list root file systems: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if checkRootfsID(e.Name()) == nil && e.Name() != emptyLayer {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// RootfsUsage is what the writable layer takes on disk. The tree is walked at most
// every two seconds, and never for more than a twentieth of the time. An unknown one is
// pod.ErrNotFound.
func (s *Store) RootfsUsage(ctx context.Context, id string) (bytes, inodes uint64, err error) {
	s.rootfs.mu.Lock()
	e, known := s.rootfs.entries[id]
	var last rootfsEntry
	if known {
		last = *e
	}
	s.rootfs.mu.Unlock()
	if !known {
		return 0, 0, fmt.Errorf("measure root file system: %w: %s", pod.ErrNotFound, id)
	}
	now := time.Now()
	if !last.measured.IsZero() && now.Sub(last.measured) < max(2*time.Second, 20*last.cost) {
		return last.usage.Bytes, last.usage.Inodes, nil
	}
	u, err := measure(ctx, s.rootfsPath(id, "upper"))
	if err != nil {
		return 0, 0, err
	}
	s.rootfs.mu.Lock()
	e.usage, e.measured, e.cost = u, now, time.Since(now)
	s.rootfs.mu.Unlock()
	return u.Bytes, u.Inodes, nil
}

func (s *Store) readRootfs(id string) (rootfsRecord, error) {
	var record rootfsRecord
	if err := checkRootfsID(id); err != nil {
		return record, err
	}
	raw, err := os.ReadFile(s.rootfsPath(id, "record"))
	if errors.Is(err, fs.ErrNotExist) {
		return record, fmt.Errorf("%w: %s", pod.ErrNotFound, id)
	}
	if err != nil {
		return record, err
	}
	if err := json.Unmarshal(raw, &record); err != nil || record.Version != 1 {
		return record, fmt.Errorf("record of root file system %s is damaged: version %d: %w", id, record.Version, err)
	}
	return record, nil
}

const emptyLayer = "empty"

func checkRootfsID(id string) error {
	if id == "" || len(id) > 128 || id[0] == '.' || id == emptyLayer ||
		strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != "" {
		return fmt.Errorf("%w: %.140q cannot name a root file system", pod.ErrInvalid, id)
	}
	return nil
}
