package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Extent is how much Stats of a cgroup tell. Reading less costs less: Usage reads a
// third of the files of Everything.
type Extent uint8

const (
	// Usage is CPU time, memory, swap and pressure: no tasks, huge pages, devices, nor
	// the figures that a Has field stands beside.
	Usage Extent = iota
	// UsageAndTasks has Pids, too.
	UsageAndTasks
	// Figures has all that the kernel keeps for a cgroup, and how many files are open.
	Figures
	// Everything has what is found only by looking at every open file: sockets.
	Everything
)

// Stats reads all figures of a cgroup; see Read.
func (c *Cgroups) Stats(fsPath string) (Stats, error) { return c.Read(fsPath, Everything) }

// Read reads figures of a cgroup, each part with its own time. Parts whose controller
// is not there are nil. A cgroup that does not exist, or goes away while it is read, is
// pod.ErrNotFound. The files stay open for the next reading until Remove or Forget, or
// until nobody has read them for some minutes (kept.go).
func (c *Cgroups) Read(fsPath string, extent Extent) (Stats, error) {
	f := c.figures(fsPath)
	defer f.end()
	var s Stats
	var err error
	if c.Mode() == V2 {
		s, err = readV2(f, extent)
	} else {
		s, err = readV1(f, extent)
	}
	if missing := errors.Is(err, fs.ErrNotExist); err != nil && !missing {
		return Stats{}, fmt.Errorf("read statistics of cgroup %s: %w", fsPath, err)
	}
	// A file may be missing because the kernel lacks it; then the cgroup still exists.
	if f.missed {
		if _, err := os.Lstat(c.mainDir(fsPath)); errors.Is(err, fs.ErrNotExist) {
			f.close()
			return Stats{}, gone(fsPath)
		}
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
