package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Usage is what a tree takes on disk.
type Usage struct {
	// Bytes are allocated blocks, hard links counted once.
	Bytes uint64 `json:"bytes"`
	// Inodes are files, directories and everything else.
	Inodes uint64 `json:"inodes"`
}

// FsInfo is one snapshot for kubelet's image garbage collection.
type FsInfo struct {
	// Mountpoint is a directory on the file system in question; statfs works on it.
	Mountpoint string
	At         time.Time
	// Images are the layers of all images, Containers the writable layers.
	Images, Containers Usage
}

// Root is FsInfo's Mountpoint alone.
func (s *Store) Root() string { return s.config.Root }

// FsInfo adds up what is known; it walks nothing.
func (s *Store) FsInfo(ctx context.Context) (FsInfo, error) {
	return FsInfo{Mountpoint: s.config.Root, At: time.Now(), Images: s.usage.sum(), Containers: s.rootfs.sum()}, nil
}

// usageBook knows the disk use of every layer. Each number is a file in the layer's
// own directory (overlay/ID/vitrine.usage), so that it goes when the layer goes.
type usageBook struct {
	mu     sync.Mutex // guards the fields below
	layers map[string]Usage
	total  Usage
}

func (b *usageBook) sum() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

func (b *usageBook) set(layer string, u Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.layers == nil {
		b.layers = map[string]Usage{}
	}
	old := b.layers[layer]
	b.layers[layer] = u
	b.total.Bytes += u.Bytes - old.Bytes
	b.total.Inodes += u.Inodes - old.Inodes
}

func (b *usageBook) known(layer string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.layers[layer]
	return known
}

// keep forgets every layer that present does not name, and returns their bytes.
func (b *usageBook) keep(present map[string]bool) (freed uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, u := range b.layers {
		if !present[id] {
			b.total.Bytes -= u.Bytes
			b.total.Inodes -= u.Inodes
			freed += u.Bytes
			delete(b.layers, id)
		}
	}
	return freed
}

func (s *Store) layerDir(id string) string { return filepath.Join(s.config.Root, "overlay", id) }

// recordUsage keeps a number that the unpacking of the layer produced.
func (s *Store) recordUsage(layer string, u Usage) error {
	s.usage.set(layer, u)
	raw, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("record disk use of layer %s: %w", layer, err)
	}
	if err := os.WriteFile(filepath.Join(s.layerDir(layer), "vitrine.usage"), raw, 0o600); err != nil {
		return fmt.Errorf("record disk use of layer %s: %w", layer, err)
	}
	return nil
}

// loadUsage reads a number written by an earlier life; false when there is none.
func (s *Store) loadUsage(layer string) bool {
	raw, err := os.ReadFile(filepath.Join(s.layerDir(layer), "vitrine.usage"))
	var u Usage
	if err != nil || json.Unmarshal(raw, &u) != nil {
		return false
	}
	s.usage.set(layer, u)
	return true
}

// settleUsage makes the book agree with the layers that exist. Layers that came
// without a number (another program's) are walked once.
func (s *Store) settleUsage(ctx context.Context) (err error) {
	ctx, span := telemetry.Start(ctx, "image.usage")
	defer span.End(&err)
	layers, err := s.storage.Layers()
	if err != nil {
		return fmt.Errorf("measure layers: %w", err)
	}
	present := map[string]bool{}
	for _, layer := range layers {
		present[layer.ID] = true
		if s.usage.known(layer.ID) || s.loadUsage(layer.ID) {
			continue
		}
		u, err := measure(ctx, filepath.Join(s.layerDir(layer.ID), "diff"))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = s.recordUsage(layer.ID, u)
		}
		if err != nil {
			s.usage.set(layer.ID, Usage{Bytes: uint64(max(layer.UncompressedSize, 0))})
		}
	}
	span.Set(telemetry.KeyFreedBytes.Int64(int64(s.usage.keep(present))))
	return nil
}

// measure walks a tree on one file system.
func measure(ctx context.Context, root string) (Usage, error) {
	var u Usage
	linked := map[uint64]bool{} // inodes with several names
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // a container removes files while we look
			}
			return err
		}
		if u.Inodes%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Nlink > 1 && !d.IsDir() {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		u.Inodes++
		u.Bytes += uint64(st.Blocks) * 512
		return nil
	})
	if err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", root, err)
	}
	return u, nil
}
