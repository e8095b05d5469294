package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Bounds on what is read from the configuration directory.
const (
	maxConfFiles = 256
	maxConfSize  = 1 << 20 // bytes
)

// conflist is one network configuration that can be used.
type conflist struct {
	*libcni.NetworkConfigList
	// raw is the whole list as one document, plugins from a sub-directory included:
	// it is what an attachment remembers.
	raw []byte
	// file is where it was read; empty for the embedded default.
	file string
}

// atLeast says whether the list is of this version of CNI or a later one.
func (l *conflist) atLeast(wanted string) bool {
	ok, err := version.GreaterThanOrEqualTo(l.CNIVersion, wanted)
	return err == nil && ok
}

// confDir is the configuration directory as it was last read.
type confDir struct {
	dir string

	mu    sync.Mutex // guards the fields below
	files []confFile // in lexical order
	err   error      // of reading the directory itself
	// watched says that changes arrive by themselves.
	watched bool
}

// confFile is one file: a good list, an error, or both — the error of the newest
// content and the list of the content before it, which stays in force.
type confFile struct {
	path string
	list *conflist
	err  error
}

// snapshot returns the files as last read; where no watch could be set up, it reads
// the directory first.
func (d *confDir) snapshot(ctx context.Context) ([]confFile, error) {
	d.mu.Lock()
	watched := d.watched
	d.mu.Unlock()
	if !watched {
		d.load(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.files), d.err
}

// load reads the directory. A file that has become bad keeps its last good list; a
// file that is gone takes its list with it.
func (d *confDir) load(ctx context.Context) {
	paths, err := confFiles(d.dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	before := map[string]confFile{}
	for _, f := range d.files {
		before[f.path] = f
	}
	if d.err = err; err != nil {
		return
	}
	d.files = d.files[:0:0]
	for _, path := range paths {
		old, known := before[path]
		f := confFile{path: path}
		if f.list, f.err = readConflist(path); f.err != nil {
			f.list = old.list
			if !known || old.err == nil || old.err.Error() != f.err.Error() {
				slog.WarnContext(ctx, "CNI configuration cannot be used", "file", path, "err", f.err, "kept", f.list != nil)
			}
		}
		d.files = append(d.files, f)
	}
}

// confFiles lists the candidates in lexical order. A directory that does not exist is empty.
func confFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read CNI configuration directory: %w", err)
	}
	var paths []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conflist", ".conf", ".json":
			if !e.IsDir() {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(paths) > maxConfFiles {
		return nil, fmt.Errorf("read CNI configuration directory %s: %w: %d files, at most %d are read", dir, pod.ErrExhausted, len(paths), maxConfFiles)
	}
	return paths, nil
}

// readConflist reads a list, or a single plugin's configuration as a list of one.
// Plugins in the sub-directory named as the network (CNI 1.1.0) become part of the list.
func readConflist(path string) (*conflist, error) {
	raw, err := readBounded(path, maxConfSize)
	if err != nil {
		return nil, err
	}
	list, err := parseConflist(raw)
	if err != nil {
		return nil, err
	}
	if !list.LoadOnlyInlinedPlugins {
		extra, err := libcni.NetworkPluginConfsFromFiles(filepath.Dir(path), list.Name)
		if err != nil {
			return nil, err
		}
		if len(extra) > 0 {
			if list, err = withPlugins(list, extra); err != nil {
				return nil, err
			}
		}
	}
	if len(list.Plugins) == 0 {
		return nil, fmt.Errorf("%w: the list has no plugins", pod.ErrInvalid)
	}
	list.file = path
	return list, nil
}

// parseConflist is the inverse of an attachment's memory: raw is the whole list.
func parseConflist(raw []byte) (*conflist, error) {
	var kind struct {
		Plugins json.RawMessage `json:"plugins"`
		Type    string          `json:"type"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("parse CNI configuration: %w", err)
	}
	var list *libcni.NetworkConfigList
	var err error
	if kind.Type != "" && kind.Plugins == nil {
		var single *libcni.PluginConfig
		if single, err = libcni.NetworkPluginConfFromBytes(raw); err == nil {
			list, err = libcni.ConfListFromConf(single)
		}
	} else {
		list, err = libcni.NetworkConfFromBytes(raw)
	}
	if err != nil {
		return nil, err
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, err
	}
	if list.CNIVersion != "" {
		if newer, err := version.GreaterThan(list.CNIVersion, version.Current()); err != nil {
			return nil, fmt.Errorf("cniVersion %q: %w", list.CNIVersion, err)
		} else if newer {
			return nil, fmt.Errorf("%w: cniVersion %s is newer than %s", pod.ErrUnsupported, list.CNIVersion, version.Current())
		}
	}
	return &conflist{NetworkConfigList: list, raw: list.Bytes}, nil
}

// withPlugins returns the list with the extra plugins written into it.
func withPlugins(list *conflist, extra []*libcni.PluginConfig) (*conflist, error) {
	document := map[string]any{}
	if err := json.Unmarshal(list.raw, &document); err != nil {
		return nil, fmt.Errorf("parse CNI configuration: %w", err)
	}
	var plugins []json.RawMessage
	for _, p := range slices.Concat(list.Plugins, extra) {
		plugins = append(plugins, p.Bytes)
	}
	document["plugins"], document["loadOnlyInlinedPlugins"] = plugins, true
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("merge plugins of network %s: %w", list.Name, err)
	}
	return parseConflist(raw)
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", pod.ErrInvalid, path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are read", pod.ErrExhausted, path, info.Size(), limit)
	}
	return os.ReadFile(path)
}
