package enter

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Facts are what a container's launcher knows of it that an exec session needs: all that
// does not depend on the command. No file means that the container needs libcontainer.
type Facts struct {
	// Namespaces were given to the container by path. The others are its init's.
	Namespaces []Namespace `json:"namespaces,omitempty"`
	// Cgroups are the container's directories of cgroup v1, each hierarchy once.
	Cgroups []string `json:"cgroups,omitempty"`
	// Unified is its directory of cgroup v2, empty for none.
	Unified string `json:"unified,omitempty"`
	// Freezer is the file that says whether the container is frozen, which it is not
	// when the file begins with Thawed.
	Freezer string `json:"freezer,omitempty"`
	Thawed  string `json:"thawed,omitempty"`
	// Keyring is the name of the session keyring to join.
	Keyring string `json:"keyring,omitempty"`
	// Filter is the path of the seccomp filter (ReadFilter); empty means none. The file is
	// made by the profile's first exec session.
	Filter string `json:"filter,omitempty"`
	// FilterFlags are those of seccomp(2).
	FilterFlags uint64 `json:"filterFlags,omitempty"`
}

// A Namespace is one of clone(2)'s CLONE_NEW flags and where it is pinned.
type Namespace struct {
	Flag uint64 `json:"flag"`
	Path string `json:"path"`
}

// factsFile is the file's name in a bundle.
const factsFile = "enter.json"

// maxFacts bounds the file in bytes.
const maxFacts = 64 << 10

// WriteFacts writes the facts of the container of bundle. They are not synced: they do not
// outlive a boot.
func WriteFacts(bundle string, f Facts) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write facts for exec sessions: %w", err)
	}
	return write(filepath.Join(bundle, factsFile), raw)
}

// ReadFacts is the inverse of WriteFacts; os.ErrNotExist says that there are none.
func ReadFacts(bundle string) (f Facts, err error) {
	raw, err := read(filepath.Join(bundle, factsFile), maxFacts)
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		return f, fmt.Errorf("read facts for exec sessions: %w", err)
	}
	return f, nil
}

// write writes a file beside its place and renames it.
func write(path string, raw []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = file.Write(raw)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// read reads a file of at most limit bytes that nobody but this user can have written.
func read(path string, limit int64) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s is not a file that only this user can write to", path)
	}
	if st.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", path, st.Size, limit)
	}
	raw := make([]byte, st.Size)
	for n := 0; n < len(raw); {
		k, err := unix.Read(fd, raw[n:])
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if k == 0 {
			return nil, fmt.Errorf("%s has become shorter", path)
		}
		n += k
	}
	return raw, nil
}
