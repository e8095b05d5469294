package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// rootfsTable knows all writable layers and which images they stand on.
type rootfsTable struct {
	mu       sync.Mutex // guards the fields below
	entries  map[string]*rootfsEntry
	users    map[string]int  // image ID → writable layers on it
	removing map[string]bool // image IDs
}

type rootfsEntry struct {
	image    string
	usage    Usage
	measured time.Time
	cost     time.Duration // of the last measurement
}

// load reads what an earlier life left and finishes its removals.
func (t *rootfsTable) load(s *Store) error {
	t.entries, t.users, t.removing = map[string]*rootfsEntry{}, map[string]int{}, map[string]bool{}
	entries, err := os.ReadDir(s.rootfsDir())
	if err != nil {
		return fmt.Errorf("list root file systems: %w", err)
	}
	for _, e := range entries {
		if id, gone := strings.CutPrefix(e.Name(), ".gone-"); gone {
			if err := os.RemoveAll(filepath.Join(s.rootfsDir(), ".gone-"+id)); err != nil {
				return fmt.Errorf("finish removal of root file system %s: %w", id, err)
			}
		}
	}
	ids, err := s.Rootfses(context.Background())
	if err != nil {
		return err
	}
	for _, id := range ids {
		record, _ := s.readRootfs(id) // a half-made one stands on no image
		t.entries[id] = &rootfsEntry{image: record.Image}
		t.users[record.Image]++
	}
	return privateMount(s.rootfsDir())
}

// close takes the private mount away unless something is mounted below it.
func (t *rootfsTable) close(s *Store) error { return dropPrivateMount(s.rootfsDir()) }

func (t *rootfsTable) add(id, image string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries[id] != nil {
		return pod.ErrExists
	}
	if t.removing[image] {
		return fmt.Errorf("%w: image %s is being removed", pod.ErrNotFound, image)
	}
	t.entries[id] = &rootfsEntry{image: image}
	t.users[image]++
	return nil
}

func (t *rootfsTable) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[id]; e != nil {
		delete(t.entries, id)
		if t.users[e.image]--; t.users[e.image] == 0 {
			delete(t.users, e.image)
		}
	}
}

// claimForRemoval makes sure that no writable layer stands on the image and that
// none is made until release.
func (t *rootfsTable) claimForRemoval(image string) (release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.users[image]; n > 0 {
		return nil, fmt.Errorf("%w: %d containers use it", pod.ErrState, n)
	}
	if t.removing[image] {
		return func() {}, nil // two removals at once: the second finds nothing
	}
	t.removing[image] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.removing, image)
	}, nil
}

// bytes are those of a writable layer when it was last measured, 0 before that.
func (t *rootfsTable) bytes(id string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[id]; e != nil {
		return e.usage.Bytes
	}
	return 0
}

func (t *rootfsTable) sum() Usage {
	t.mu.Lock()
	defer t.mu.Unlock()
	var total Usage
	for _, e := range t.entries {
		total.Bytes += e.usage.Bytes
		total.Inodes += e.usage.Inodes
	}
	return total
}
