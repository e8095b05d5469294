package cgroup

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// readRecord reads a file from its beginning. The files that are kept have one record,
// which the kernel gives in a single read that has room for it
// (Documentation/filesystems/seq_file.rst).
func readRecord(fd int) (string, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		room := (*buf)[:cap(*buf)]
		n, err := retryEINTR(func() (int, error) { return unix.Pread(fd, room, 0) })
		if err != nil {
			return "", err
		}
		if n < len(room) {
			return string(room[:n]), nil
		}
		if n >= maxFile {
			return "", fmt.Errorf("%w: more than %d bytes", pod.ErrExhausted, maxFile)
		}
		*buf = make([]byte, 0, 2*len(room))
	}
}

func (f *figures) uint(controller, name string) (uint64, error) {
	text, err := f.text(controller, name)
	if err != nil {
		return 0, err
	}
	return parseUint(f.path, name, strings.TrimSpace(text))
}

// limit reads a v1 limit; 0 when there is none.
func (f *figures) limit(controller, name string) (uint64, error) {
	n, err := f.uint(controller, name)
	if n >= unlimited {
		n = 0
	}
	return n, err
}

// told reads a number that not every kernel offers.
func (f *figures) told(controller, name string) (n uint64, ok bool) {
	n, err := f.uint(controller, name)
	return n, err == nil
}

func (f *figures) keys(controller, name string) (keys, error) {
	text, err := f.text(controller, name)
	return keys(text), err
}

// psi is nil where the kernel has no pressure information for the cgroup.
func (f *figures) psi(controller, name string) (*PSI, error) {
	text, err := f.text(controller, name)
	if err != nil {
		return nil, optional(err)
	}
	return parsePSI(text), nil
}

// keys is a file of lines "key number".
type keys string

// get finds one; false when there is none, or when it is no number.
func (k keys) get(name string) (n uint64, found bool) {
	rest := string(k)
	for {
		i := strings.Index(rest, name)
		if i < 0 {
			return 0, false
		}
		begins := i == 0 || rest[i-1] == '\n'
		rest = rest[i+len(name):]
		if !begins || !strings.HasPrefix(rest, " ") {
			continue
		}
		value, _, _ := strings.Cut(rest[1:], "\n")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		return n, err == nil
	}
}

// of is get where absence is zero.
func (k keys) of(name string) uint64 {
	n, _ := k.get(name)
	return n
}
