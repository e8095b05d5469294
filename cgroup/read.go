package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// maxFile bounds what is read of one cgroup file.
const maxFile = 4 << 20

// buffers keeps read buffers: files are read often, and small.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// readFile returns the file's text. The kernel's answers for a cgroup that has gone
// meanwhile (ENODEV) and for one that never was (ENOENT) are both fs.ErrNotExist.
func readFile(dir, name string) (string, error) {
	fd, err := retryEINTR(func() (int, error) { return unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", readError(dir, name, err)
	}
	defer unix.Close(fd)
	text, err := readAll(fd)
	if err != nil {
		return "", readError(dir, name, err)
	}
	return text, nil
}

// readAll reads an open file from its beginning. A long list comes a page at a time,
// whatever room there is. More than maxFile bytes are pod.ErrExhausted.
func readAll(fd int) (string, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	text := (*buf)[:0]
	for {
		if len(text) == cap(text) {
			if len(text) >= maxFile {
				return "", fmt.Errorf("%w: more than %d bytes", pod.ErrExhausted, maxFile)
			}
			text = append(text, 0)[:len(text)]
		}
		n, err := retryEINTR(func() (int, error) { return unix.Pread(fd, text[len(text):cap(text)], int64(len(text))) })
		if err != nil {
			return "", err
		}
		if n == 0 {
			*buf = text
			return string(text), nil
		}
		text = text[:len(text)+n]
	}
}

func readError(dir, name string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		err = fs.ErrNotExist
	}
	return fmt.Errorf("read %s/%s: %w", dir, name, err)
}

func retryEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func writeFile(dir, name, value string) error {
	fd, err := retryEINTR(func() (int, error) { return unix.Open(dir+"/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err == nil {
		defer unix.Close(fd)
		_, err = retryEINTR(func() (int, error) { return unix.Write(fd, []byte(value)) })
	}
	if errors.Is(err, unix.ENODEV) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("write %q to %s/%s: %w", value, dir, name, err)
	}
	return nil
}

// readUint reads a file of one number; "max" is 0 like the absence of a limit.
func readUint(dir, name string) (uint64, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return 0, err
	}
	return parseUint(dir, name, strings.TrimSpace(text))
}

func parseUint(dir, name, text string) (uint64, error) {
	if text == "max" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s/%s: %.40q is not a number", dir, name, text)
	}
	return n, nil
}

// unlimited is above every v1 memory limit that means something: the kernel shows
// the absence of one as the largest multiple of the page size.
const unlimited = math.MaxInt64 &^ (1<<16 - 1)

// readLimit reads a v1 limit; 0 when there is none.
func readLimit(dir, name string) (uint64, error) {
	n, err := readUint(dir, name)
	if n >= unlimited {
		n = 0
	}
	return n, err
}

// readKeys reads a file of lines "key number". Lines of another form are left out.
func readKeys(dir, name string) (map[string]uint64, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	return parseKeys(text), nil
}

// has says that a file of keys had this one.
func has(keys map[string]uint64, key string) bool {
	_, ok := keys[key]
	return ok
}

// told reads a number that not every kernel offers.
func told(dir, name string) (n uint64, ok bool) {
	n, err := readUint(dir, name)
	return n, err == nil
}

func parseKeys(text string) map[string]uint64 {
	keys := make(map[string]uint64, 64)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				keys[key] = n
			}
		}
	}
	return keys
}

// optional turns the error of an absent file into none: not every kernel and
// hierarchy has every file.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
