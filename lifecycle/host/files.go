package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ReadBounded reads a file of at most limit bytes; a larger one is an error.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return raw, err
}

// RootCause strips the path that os puts before the cause, for messages that name
// the path themselves.
func RootCause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
