package enter

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Filter is a seccomp program as the kernel has it: struct sock_filter (linux/filter.h), 8 bytes
// an instruction, 4,096 at most.
type Filter []byte

// instruction is the size of one in bytes; the kernel takes 4096 (BPF_MAXINSNS).
const (
	instruction = 8
	maxFilter   = 4096 * instruction
)

// filterHeader begins the file of a filter:
//
//	vitrine-loaded 1\n
//	SHA-256 of the rest, 32 bytes
//	instructions
const filterHeader = "vitrine-loaded 1\n"

// ErrDamaged is returned for the file of a filter that is not as it was written.
var ErrDamaged = errors.New("the file of a seccomp filter is damaged")

// maxFilters bounds the files of a directory; one that has more is emptied first.
const maxFilters = 256

// WriteFilter writes the file of a filter. Its directory is made where it is missing, mode
// 0700, and must be this user's alone; it holds at most 256 filters.
func WriteFilter(path string, f Filter) error {
	if len(f) == 0 || len(f)%instruction != 0 || len(f) > maxFilter {
		return fmt.Errorf("write seccomp filter: %d bytes are none", len(f))
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write seccomp filter: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("write seccomp filter: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("write seccomp filter: %s is not a directory that only this user can write to", dir)
	}
	if files, err := os.ReadDir(dir); err == nil && len(files) >= maxFilters {
		for _, old := range files {
			_ = os.Remove(filepath.Join(dir, old.Name()))
		}
	}
	sum := sha256.Sum256(f)
	if err := write(path, append(append([]byte(filterHeader), sum[:]...), f...)); err != nil {
		return fmt.Errorf("write seccomp filter: %w", err)
	}
	return nil
}

// ReadFilter is the inverse of WriteFilter. A file that is not as it was written is ErrDamaged, one
// that is not there fs.ErrNotExist.
func ReadFilter(path string) (Filter, error) {
	raw, err := read(path, int64(len(filterHeader)+sha256.Size+maxFilter))
	if err != nil {
		return nil, fmt.Errorf("read seccomp filter: %w", err)
	}
	rest, ok := bytes.CutPrefix(raw, []byte(filterHeader))
	if !ok || len(rest) <= sha256.Size || (len(rest)-sha256.Size)%instruction != 0 {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, path)
	}
	if sum := sha256.Sum256(rest[sha256.Size:]); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, path)
	}
	return rest[sha256.Size:], nil
}
