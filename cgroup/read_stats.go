package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Stats reads the figures of a cgroup, each part with its own time. Parts whose
// controller is not there are nil. A cgroup that does not exist, or goes away while
// it is read, is pod.ErrNotFound.
func (c *Cgroups) Stats(fsPath string) (Stats, error) {
	main := c.mainDir(fsPath)
	var s Stats
	var err error
	if c.Mode() == V2 {
		s, err = readV2(main)
	} else {
		s, err = c.readV1(fsPath)
	}
	if missing := errors.Is(err, fs.ErrNotExist); err != nil && !missing {
		return Stats{}, fmt.Errorf("read statistics of cgroup %s: %w", fsPath, err)
	}
	// A part may be missing because the kernel lacks it; then the cgroup still exists.
	if _, err := os.Lstat(main); errors.Is(err, fs.ErrNotExist) {
		return Stats{}, gone(fsPath)
	}
	return s, nil
}

// part runs one reader of a part. An absent file leaves the part out.
func part[T any](read func() (*T, error)) (*T, error) {
	p, err := read()
	if err != nil {
		return nil, optional(err)
	}
	return p, nil
}
