package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/lockfile"
)

// pruneTemporary removes what the storage library was about to rename into place
// when a process died. Each directory's own lock is held meanwhile: whoever writes
// there, Podman too, has it, so no file in use can go.
func (s *Store) pruneTemporary() error {
	for _, place := range [][2]string{
		{filepath.Join(s.config.Root, "overlay-images"), "images.lock"},
		{filepath.Join(s.config.Root, "overlay-layers"), "layers.lock"},
		{filepath.Join(s.config.RunRoot, "overlay-layers"), "mountpoints.lock"},
	} {
		if err := pruneTemporaryIn(place[0], place[1]); err != nil {
			return fmt.Errorf("clear temporary files: %w", err)
		}
	}
	return nil
}

func pruneTemporaryIn(dir, lock string) error {
	leftover, err := filepath.Glob(filepath.Join(dir, ".tmp-*"))
	if err != nil || len(leftover) == 0 {
		return err
	}
	l, err := lockfile.GetLockFile(filepath.Join(dir, lock))
	if err != nil {
		return err
	}
	l.Lock()
	defer l.Unlock()
	for _, path := range leftover {
		if name := filepath.Base(path); !strings.Contains(name, ".json") {
			continue
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
