package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// repair makes the store whole after an unclean end: it finishes what was cut off,
// and takes away what a power cut may have damaged, so that the next pull fetches
// exactly that anew. After an end that the kernel survived (a killed daemon) only
// leftovers are cleared: what was written is still there.
func (s *Store) repair(ctx context.Context) (err error) {
	ctx, span := telemetry.Start(ctx, "image.repair")
	defer span.End(&err)
	if err := s.pruneStaging(); err != nil {
		return err
	}
	if err := s.pruneTemporary(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(s.config.RunRoot, "idmap")); err != nil {
		return fmt.Errorf("clear id-mapped mounts: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(s.config.Root, "tmp")); err != nil {
		return fmt.Errorf("clear temporary files: %w", err)
	}
	if err := os.MkdirAll(s.journalDir(), 0o700); err != nil {
		return err
	}
	layers, journals, err := s.doubtful()
	if err != nil {
		return err
	}
	removed, err := s.dropLayers(layers)
	if err != nil {
		return fmt.Errorf("remove layers that a power cut may have damaged: %w", err)
	}
	unclean, err := s.markOpen()
	if err != nil {
		return err
	}
	problems := 0
	if unclean {
		if problems, err = s.check(ctx); err != nil {
			return err
		}
	}
	span.Set(attribute.Bool("vitrine.image.unclean", unclean), attribute.Int("vitrine.image.layers_removed", removed), attribute.Int("vitrine.image.problems", problems))
	for _, j := range journals {
		s.settle(j)
	}
	return nil
}

// check compares the store's records with what is there and removes what is damaged.
// It does not read the layers' files.
func (s *Store) check(ctx context.Context) (problems int, err error) {
	report, err := s.storage.Check(&storage.CheckOptions{LayerData: true, ImageData: true, ContainerData: true})
	if err != nil {
		return 0, fmt.Errorf("check image store: %w", err)
	}
	problems = len(report.Layers) + len(report.Images) + len(report.Containers)
	if problems == 0 {
		return 0, nil
	}
	if errs := s.storage.Repair(report, &storage.RepairOptions{}); len(errs) > 0 {
		return problems, fmt.Errorf("repair image store: %w", errors.Join(errs...))
	}
	return problems, nil
}

// dropLayers removes layers with everything that stands on them: images, and layers above.
func (s *Store) dropLayers(bad map[string]bool) (removed int, err error) {
	if len(bad) == 0 {
		return 0, nil
	}
	layers, err := s.storage.Layers()
	if err != nil {
		return 0, err
	}
	parent := map[string]string{}
	for _, l := range layers {
		parent[l.ID] = l.Parent
	}
	damaged := func(id string) bool {
		for ; id != ""; id = parent[id] {
			if bad[id] {
				return true
			}
		}
		return false
	}
	images, err := s.storage.Images()
	if err != nil {
		return 0, err
	}
	for _, img := range images {
		if damaged(img.TopLayer) {
			if _, err := s.storage.DeleteImage(img.ID, true); err != nil && !errors.Is(err, storage.ErrImageUnknown) {
				return removed, err
			}
		}
	}
	// Children before parents: a layer with children is refused and tried again.
	for progress := true; progress; {
		progress = false
		for _, l := range layers {
			if !damaged(l.ID) || !s.storage.Exists(l.ID) {
				continue
			}
			if err := s.storage.DeleteLayer(l.ID); err == nil {
				progress = true
			}
		}
	}
	for _, l := range layers {
		if damaged(l.ID) {
			if s.storage.Exists(l.ID) {
				return removed, fmt.Errorf("layer %s is in use", l.ID)
			}
			removed++
		}
	}
	return removed, nil
}

// orphanAge is how long a layer that no image has is kept for a retry of its pull.
const orphanAge = time.Hour

// dropOrphans removes layers that interrupted pulls left, and that nobody has come
// back for.
func (s *Store) dropOrphans() error {
	all, err := s.storage.MultiList(storage.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		return fmt.Errorf("find layers without image: %w", err)
	}
	parent, used := map[string]string{}, map[string]bool{}
	for _, l := range all.Layers {
		parent[l.ID] = l.Parent
	}
	use := func(id string) {
		for ; id != "" && !used[id]; id = parent[id] {
			used[id] = true
		}
	}
	for _, img := range all.Images {
		use(img.TopLayer)
		for _, id := range img.MappedTopLayers {
			use(id)
		}
	}
	for _, c := range all.Containers {
		use(c.LayerID)
	}
	for _, l := range all.Layers { // a young orphan keeps what it stands on
		if time.Since(l.Created) < orphanAge {
			use(l.ID)
		}
	}
	orphans := map[string]bool{}
	for _, l := range all.Layers {
		if !used[l.ID] {
			orphans[l.ID] = true
		}
	}
	_, err = s.dropLayers(orphans)
	return err
}

// pruneStaging removes directories in which an earlier life unpacked layers. Those of
// other programs are locked while they work.
func (s *Store) pruneStaging() error {
	base := filepath.Join(s.config.Root, "overlay", "staging")
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil // none was ever made
	}
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
		if f, err := os.OpenFile(filepath.Join(dir, "staging.lock"), os.O_RDWR, 0); err == nil {
			busy := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) != nil
			if busy {
				f.Close()
				continue
			}
			defer f.Close()
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clear unpacking directory: %w", err)
		}
	}
	return nil
}
