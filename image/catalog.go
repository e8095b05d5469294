package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/storage"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Image is one stored image. It is a value whose slices and maps are shared and must
// not be modified.
type Image struct {
	// ID is 64 hexadecimal digits: the config's digest for every image that was
	// pulled whole.
	ID string
	// RepoTags are name:tag, RepoDigests name@digest; fully qualified, sorted.
	RepoTags, RepoDigests []string
	// Size is the uncompressed size of layers, config and manifests, in bytes.
	Size uint64
	// Config is the image's configuration.
	Config v1.Image
	// User is what the image says about the user, as written: "", "uid", "name", "uid:gid"….
	User string
	// Pinned images are not removed by garbage collection.
	Pinned bool
	// Digest is the digest of the manifest, or of the index, that the newest name stands for.
	Digest string

	layers []string // layer IDs, topmost first
}

// catalog holds all images in memory. It is valid while images.json is the file it
// was read from; other programs that share the store replace that file.
type catalog struct {
	mu     sync.RWMutex // guards the fields below
	images map[string]Image
	sorted []Image
	names  map[string]string // name:tag and name@digest → ID
	stamp  stamp

	reload sync.Mutex // held by the one goroutine that reads the store
}

// stamp identifies one version of a file that is replaced by rename.
type stamp struct {
	ino   uint64
	size  int64
	mtime syscall.Timespec
}

func stampOf(path string) (stamp, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		if err == syscall.ENOENT {
			return stamp{}, nil // a store without images
		}
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stamp{st.Ino, st.Size, st.Mtim}, nil
}

// fresh makes the catalog current; it costs one stat when it is.
func (s *Store) fresh() error {
	now, err := stampOf(s.imagesFile())
	if err != nil {
		return fmt.Errorf("read image store: %w", err)
	}
	s.catalog.mu.RLock()
	current := s.catalog.images != nil && s.catalog.stamp == now
	s.catalog.mu.RUnlock()
	if current {
		return nil
	}
	return s.catalog.refresh(s)
}

func (s *Store) imagesFile() string {
	return filepath.Join(s.config.Root, "overlay-images", "images.json")
}

// refresh reads the images that are new or have new names.
func (c *catalog) refresh(s *Store) error {
	c.reload.Lock()
	defer c.reload.Unlock()
	now, err := stampOf(s.imagesFile())
	if err != nil {
		return fmt.Errorf("read image store: %w", err)
	}
	stored, err := s.storage.Images()
	if err != nil {
		return fmt.Errorf("read image store: %w", err)
	}
	layers, err := s.storage.Layers()
	if err != nil {
		return fmt.Errorf("read image store: %w", err)
	}
	byID := make(map[string]*storage.Layer, len(layers))
	for i := range layers {
		byID[layers[i].ID] = &layers[i]
	}
	c.mu.RLock()
	before := c.images
	c.mu.RUnlock()
	images, names := make(map[string]Image, len(stored)), map[string]string{}
	for i := range stored {
		img, ok, err := s.describe(&stored[i], before, byID)
		if err != nil {
			return err
		}
		if !ok {
			continue // damaged: a pull replaces it, removal finds it by ID
		}
		images[img.ID] = img
		for _, n := range slices.Concat(img.RepoTags, img.RepoDigests) {
			names[n] = img.ID
		}
	}
	sorted := make([]Image, 0, len(images))
	for _, img := range images {
		sorted = append(sorted, img)
	}
	slices.SortFunc(sorted, func(a, b Image) int { return strings.Compare(a.ID, b.ID) })
	c.mu.Lock()
	c.images, c.sorted, c.names, c.stamp = images, sorted, names, now
	c.mu.Unlock()
	return nil
}

// describe makes an Image of what is stored. An image whose layers or metadata are
// missing is reported as not ok.
func (s *Store) describe(stored *storage.Image, before map[string]Image, layers map[string]*storage.Layer) (img Image, ok bool, err error) {
	img, known := before[stored.ID]
	if !known {
		img = Image{ID: stored.ID}
		if img.Config, err = s.readConfig(stored.ID); err != nil {
			return img, false, nil
		}
		img.User = img.Config.Config.User
		for _, size := range stored.BigDataSizes {
			img.Size += uint64(max(size, 0))
		}
		for id := stored.TopLayer; id != ""; {
			layer, found := layers[id]
			if !found {
				return img, false, nil
			}
			img.layers = append(img.layers, id)
			img.Size += uint64(max(layer.UncompressedSize, 0))
			id = layer.Parent
		}
	}
	img.RepoTags, img.RepoDigests, img.Digest = nil, nil, stored.Digest.String()
	names := stored.Names
	if len(names) == 0 {
		names = stored.NamesHistory // its tag moved on; the digests still say where it came from
	}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			continue
		}
		if tagged, ok := named.(reference.NamedTagged); ok && len(stored.Names) > 0 {
			img.RepoTags = append(img.RepoTags, tagged.Name()+":"+tagged.Tag())
		}
		repo := named.Name()
		for _, d := range append([]digest.Digest{stored.Digest}, stored.Digests...) {
			if d != "" {
				img.RepoDigests = append(img.RepoDigests, repo+"@"+d.String())
			}
		}
	}
	img.RepoTags, img.RepoDigests = unique(img.RepoTags), unique(img.RepoDigests)
	img.Pinned = s.config.pinned(img.RepoTags) || s.config.pinned(img.RepoDigests)
	return img, true, nil
}

// readConfig reads an image's configuration from the store.
func (s *Store) readConfig(id string) (v1.Image, error) {
	var config v1.Image
	raw, err := s.storage.ImageBigData(id, storage.ImageDigestBigDataKey)
	if err != nil {
		return config, fmt.Errorf("read manifest of image %s: %w", id, err)
	}
	m, err := manifest.FromBlob(raw, manifest.GuessMIMEType(raw))
	if err != nil {
		return config, fmt.Errorf("read manifest of image %s: %w", id, err)
	}
	info := m.ConfigInfo()
	if info.Digest == "" {
		return config, fmt.Errorf("read manifest of image %s: it names no configuration", id)
	}
	if raw, err = s.storage.ImageBigData(id, info.Digest.String()); err != nil {
		return config, fmt.Errorf("read configuration of image %s: %w", id, err)
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return config, fmt.Errorf("read configuration of image %s: %w", id, err)
	}
	return config, nil
}

// List returns all images, ordered by ID. It reads memory only, unless another
// program changed the store.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	if err := s.fresh(); err != nil {
		return nil, err
	}
	s.catalog.mu.RLock()
	defer s.catalog.mu.RUnlock()
	return slices.Clone(s.catalog.sorted), nil
}

// Status finds one image by ID, by a unique prefix of at least three digits of it,
// by tag, by digest, or by short name. Absent: pod.ErrNotFound; what cannot name an
// image: pod.ErrInvalid.
func (s *Store) Status(ctx context.Context, ref string) (Image, error) {
	if ref == "" {
		return Image{}, fmt.Errorf("%w: image reference is empty", pod.ErrInvalid)
	}
	if err := s.fresh(); err != nil {
		return Image{}, err
	}
	if id, ok := imageID(ref); ok {
		if img, found := s.catalog.byID(id); found {
			return img, nil
		}
		return Image{}, fmt.Errorf("%w: image %s", pod.ErrNotFound, ref)
	}
	named, err := candidates(s.system(), ref)
	for _, n := range named {
		if img, found := s.catalog.byName(n.String()); found {
			return img, nil
		}
	}
	if img, found, err := s.catalog.byPrefix(ref); found || err != nil {
		return img, err
	}
	if err != nil {
		return Image{}, err
	}
	return Image{}, fmt.Errorf("%w: image %q", pod.ErrNotFound, ref)
}

func (c *catalog) byID(id string) (Image, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	img, found := c.images[id]
	return img, found
}

func (c *catalog) byName(name string) (Image, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	img, found := c.images[c.names[name]]
	return img, found
}

func (c *catalog) byPrefix(prefix string) (Image, bool, error) {
	prefix = strings.TrimPrefix(prefix, "sha256:")
	if len(prefix) < 3 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return Image{}, false, nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(c.sorted, prefix, func(img Image, p string) int { return strings.Compare(img.ID, p) })
	if i == len(c.sorted) || !strings.HasPrefix(c.sorted[i].ID, prefix) {
		return Image{}, false, nil
	}
	if i+1 < len(c.sorted) && strings.HasPrefix(c.sorted[i+1].ID, prefix) {
		return Image{}, false, fmt.Errorf("%w: image id %s is the beginning of more than one", pod.ErrInvalid, prefix)
	}
	return c.sorted[i], true, nil
}

func unique(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
