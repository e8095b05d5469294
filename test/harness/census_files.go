package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// takeLeases lists the addresses that host-local holds for the instance.
func takeLeases(in *Instance) ([]string, error) {
	var items []string
	for _, dir := range []string{filepath.Join(in.Dir, "ipam"), filepath.Join(in.Data(), "network")} {
		err := walk(dir, func(path string, e fs.DirEntry) {
			if net.ParseIP(e.Name()) != nil {
				items = append(items, e.Name())
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return items, nil
}

// takeLayers lists what the storage library's own indexes hold: the writable layer
// of a container is a layer, and a container entry beside it.
func takeLayers(in *Instance) ([]string, error) {
	var items []string
	indexes := []struct{ file, what string }{
		{"overlay-layers/layers.json", "layer"},
		{"overlay-layers/volatile-layers.json", "volatile layer"},
		{"overlay-containers/containers.json", "container"},
		{"overlay-containers/volatile-containers.json", "volatile container"},
		{"overlay-images/images.json", "image"},
	}
	for _, index := range indexes {
		path := filepath.Join(in.Data(), "storage", index.file)
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || len(raw) == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		var entries []struct {
			ID    string   `json:"id"`
			Names []string `json:"names"`
		}
		if err := json.Unmarshal(raw, &entries); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, e := range entries {
			items = append(items, fmt.Sprintf("%s %s %v", index.what, e.ID, e.Names))
		}
	}
	return items, nil
}

// Of the data directory only these levels are listed: below lie the contents of
// layers, which takeLayers knows by their owners.
const dataDepth = 4

// takeFiles lists the state directory whole and the data directory to dataDepth.
// What a running daemon may write at any time (its history, spool, caches, lock
// and temporary files) is left out by name.
func takeFiles(in *Instance) ([]string, error) {
	var items []string
	err := walk(in.State(), func(path string, e fs.DirEntry) {
		if rel, _ := filepath.Rel(in.Dir, path); !breathes(rel) {
			items = append(items, rel)
		}
	})
	if err != nil {
		return nil, err
	}
	err = walk(in.Data(), func(path string, e fs.DirEntry) {
		rel, _ := filepath.Rel(in.Dir, path)
		if strings.Count(rel, "/") <= dataDepth && !breathes(rel) {
			items = append(items, rel)
		}
	})
	return items, err
}

// breathes reports whether a path, relative to the instance, comes and goes without
// being anyone's leak: sockets of the daemon itself, lock files, and stores that
// are bounded by design.
func breathes(rel string) bool {
	if strings.HasSuffix(rel, ".lock") || strings.HasSuffix(rel, ".tmp") || strings.HasSuffix(rel, ".new") {
		return true
	}
	if rel == "state/bpffs" || strings.HasPrefix(rel, "state/bpffs/") {
		return true // takePins lists them
	}
	switch rel {
	case "state/runtime", "data/network/results", "data/network/leases": // made for the first pod, kept for the next
		return true
	}
	if base := filepath.Base(rel); strings.HasPrefix(rel, "data/network/leases/") && net.ParseIP(base) == nil {
		return true // host-local's directory per network with its cursor; addresses are leases
	}
	for _, prefix := range []string{
		"state/spare",                                             // the log of the monitor that waits
		"state/vitrine.sock", "state/api.sock", "state/otlp.sock", // the daemon's doors
		"data/traces", "data/history", "data/telemetry", "state/spool", "state/telemetry", // bounded stores
		"data/seccomp", "state/seccomp", "state/filters", "data/cache", "state/cache", "state/runtime/.cache", // compiled filters; the last are crun's
		"data/storage/overlay/l/", "data/storage/overlay/staging", "data/storage/overlay/tempdirs", "data/storage/overlay-layers/tmp",
		"data/storage/tmp", "data/storage/unsynced",
	} {
		if strings.HasPrefix(rel, prefix) {
			return true
		}
	}
	return false
}

// takePins lists what lies in the instance's bpffs, but for directories.
func takePins(in *Instance) ([]string, error) {
	var items []string
	dir := filepath.Join(in.State(), "bpffs")
	err := walk(dir, func(path string, e fs.DirEntry) {
		if rel, _ := filepath.Rel(dir, path); !e.IsDir() {
			items = append(items, rel)
		}
	})
	return items, err
}

// walk visits everything below dir, without following links and without minding
// what vanishes meanwhile; it does not descend into mounted root file systems.
func walk(dir string, visit func(string, fs.DirEntry)) error {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid) {
				return nil
			}
			return err
		}
		if path != dir {
			visit(path, e)
		}
		if e.IsDir() && (e.Name() == "diff" || e.Name() == "merged" || e.Name() == "rootfs") {
			return filepath.SkipDir
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
