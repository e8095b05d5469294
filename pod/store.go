package pod

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// Store keeps one record per sandbox and per container:
//
//	DIR/
//	├── sandboxes/
//	│   └── ID/
//	│       └── record          header line, then JSON
//	└── containers/
//	    └── ID/
//	        ├── record
//	        └── …               the bundle, the exit record and the sockets of the monitor
//
// A record is written beside its place and renamed. It is not synced: DIR is on
// tmpfs, where nothing outlives a boot and neither do the containers. A Store is
// safe for concurrent use on different objects; writers of one object take turns
// (lifecycle's per-pod lock).
type Store struct{ dir string }

// recordVersion is the layout of records. A reader accepts this version and the
// ones before it; a newer one is refused, not guessed at.
const recordVersion = 1

// maxRecord bounds what the store reads, in bytes. A container request is bounded
// by gRPC's 16 MiB message limit, and base64 adds a third.
const maxRecord = 32 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenStore makes the directories and returns the store. Those of sandboxes can be
// passed (0711), because containers with mapped users mount files from them; records
// and containers' directories are root's alone.
func OpenStore(dir string) (*Store, error) {
	for sub, mode := range map[string]os.FileMode{"sandboxes": 0o711, "containers": 0o700} {
		if err := os.MkdirAll(filepath.Join(dir, sub), mode); err != nil {
			return nil, fmt.Errorf("open record store: %w", err)
		}
	}
	return &Store{dir: dir}, nil
}

// SandboxDir is where a sandbox's record lives; owned by the store.
func (s *Store) SandboxDir(id ID) string { return filepath.Join(s.dir, "sandboxes", string(id)) }

// ContainerDir is where a container's record lives, beside the files of its
// monitor. It is removed as a whole by DeleteContainer.
func (s *Store) ContainerDir(id ID) string { return filepath.Join(s.dir, "containers", string(id)) }

// PutSandbox writes the record, replacing the one before it.
func (s *Store) PutSandbox(sb Sandbox) error { return put(s.SandboxDir(sb.ID), 0o711, sb) }

// PutContainer writes the record, replacing the one before it.
func (s *Store) PutContainer(c Container) error { return put(s.ContainerDir(c.ID), 0o700, c) }

// DeleteSandbox removes the record and its directory; absence is success.
func (s *Store) DeleteSandbox(id ID) error { return remove(s.SandboxDir(id)) }

// DeleteContainer removes the record, the bundle and the monitor's files; absence
// is success. The record goes last, so that an interrupted removal is found again.
func (s *Store) DeleteContainer(id ID) error { return remove(s.ContainerDir(id)) }

// Damage is a record that could not be believed.
type Damage struct {
	ID   ID
	Path string
	Err  error
}

// Load reads every record. Damaged ones are returned beside the good ones; a
// directory without a record is damage too (its owner died before the intent was
// written). The error is for the directories themselves.
func (s *Store) Load() (sandboxes []Sandbox, containers []Container, damaged []Damage, err error) {
	sandboxes, d1, err1 := loadAll[Sandbox](filepath.Join(s.dir, "sandboxes"))
	containers, d2, err2 := loadAll[Container](filepath.Join(s.dir, "containers"))
	return sandboxes, containers, append(d1, d2...), errors.Join(err1, err2)
}

func loadAll[T any](dir string) (good []T, damaged []Damage, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("load records: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		id, err := ParseID(e.Name())
		if err != nil {
			damaged = append(damaged, Damage{Path: path, Err: err})
			continue
		}
		var v T
		if err := get(filepath.Join(path, "record"), &v); err != nil {
			damaged = append(damaged, Damage{ID: id, Path: path, Err: err})
			continue
		}
		good = append(good, v)
	}
	return good, damaged, nil
}

// A record is one header line, "vitrine-record VERSION CRC32C LENGTH\n" with the
// sum in hexadecimal, and LENGTH bytes of JSON.
func put(dir string, mode os.FileMode, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write record: %w", err)
	}
	var buf bytes.Buffer
	buf.Grow(len(body) + 64)
	fmt.Fprintf(&buf, "vitrine-record %d %08x %d\n", recordVersion, crc32.Checksum(body, castagnoli), len(body))
	buf.Write(body)
	path := filepath.Join(dir, "record")
	if err := os.WriteFile(path+".new", buf.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

func get(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if info.Size() > maxRecord {
		return fmt.Errorf("read record %s: %d bytes, at most %d are believed", path, info.Size(), maxRecord)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	return decodeRecord(path, raw, v)
}

func decodeRecord(path string, raw []byte, v any) error {
	header, body, found := bytes.Cut(raw, []byte("\n"))
	var version, length int
	var sum uint32
	if n, err := fmt.Sscanf(string(header[:min(len(header), 80)]), "vitrine-record %d %x %d", &version, &sum, &length); !found || n != 3 || err != nil {
		return fmt.Errorf("read record %s: no record header", path)
	}
	if version < 1 || version > recordVersion {
		return fmt.Errorf("read record %s: version %d, this build knows 1 to %d", path, version, recordVersion)
	}
	if len(body) != length || crc32.Checksum(body, castagnoli) != sum {
		return fmt.Errorf("read record %s: body of %d bytes does not match its header", path, len(body))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read record %s: %w", path, err)
	}
	return nil
}

func remove(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "record" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove record: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}
