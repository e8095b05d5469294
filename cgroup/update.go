package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Update changes limits: all of them or, when one cannot be set, none, the old
// values being back. A memory limit below what cannot be reclaimed is pod.ErrState,
// a value that the kernel refuses pod.ErrInvalid, a limit for which the host has no
// controller pod.ErrUnsupported, and a cgroup that is not there pod.ErrNotFound.
func (c *Cgroups) Update(fsPath string, r Resources) error {
	_, err := c.Apply(fsPath, r)
	return err
}

// Apply is Update that can be taken back: restore, which is never nil, puts the values
// of before into force again. Errors are Update's; then the old values are back.
func (c *Cgroups) Apply(fsPath string, r Resources) (restore func() error, err error) {
	restore = func() error { return nil }
	if err := r.check(); err != nil {
		return restore, fmt.Errorf("update cgroup %s: %w", fsPath, err)
	}
	if _, err := os.Lstat(c.mainDir(fsPath)); errors.Is(err, fs.ErrNotExist) {
		return restore, gone(fsPath)
	}
	steps, err := c.plan(fsPath, r)
	before := snapshot(steps)
	if err = c.set(fsPath, r, steps, err); err != nil {
		return restore, err
	}
	return func() error { return c.putBack(fsPath, before) }, nil
}

// putBack writes what the files held.
func (c *Cgroups) putBack(fsPath string, before []step) error {
	if len(before) == 0 {
		return nil
	}
	if c.Driver() != Systemd {
		return writeBack(before)
	}
	m, err := c.unit(fsPath, &cgroups.Resources{SkipDevices: true})
	if err != nil {
		return err
	}
	return errors.Join(m.Set(c.previous(before)), writeBack(before))
}

// set performs the steps unless planning them has failed, and names the failure.
func (c *Cgroups) set(fsPath string, r Resources, steps []step, err error) error {
	switch {
	case err != nil || len(steps) == 0:
	case c.Driver() == Systemd:
		err = c.updateUnit(fsPath, r, steps)
	default:
		err = perform(steps)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if _, e := os.Lstat(c.mainDir(fsPath)); errors.Is(e, fs.ErrNotExist) {
			return gone(fsPath)
		}
		return fmt.Errorf("update cgroup %s: %w: %w", fsPath, pod.ErrUnsupported, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return fmt.Errorf("update cgroup %s: %w: %w", fsPath, pod.ErrInvalid, err)
	}
	return fmt.Errorf("update cgroup %s: %w", fsPath, err)
}

// step is one file to be written.
type step struct {
	dir, file, value string
	// optional: without the file there is nothing to limit.
	optional bool
}

// perform writes the files in order. When one fails it writes back, in reverse, what
// those before it held.
func perform(steps []step) error {
	var undo []step
	for _, s := range steps {
		old, readErr := readFile(s.dir, s.file)
		if errors.Is(readErr, fs.ErrNotExist) && s.optional {
			continue
		}
		if err := writeFile(s.dir, s.file, s.value); err != nil {
			return errors.Join(explain(s, err), writeBack(undo))
		}
		if readErr == nil {
			undo = append(undo, step{s.dir, s.file, strings.TrimSuffix(old, "\n"), false})
		}
	}
	return nil
}

func writeBack(undo []step) error {
	var errs []error
	for _, s := range slices.Backward(undo) {
		lines := strings.Split(s.value, "\n") // files with a line per device take one at a time
		if s.value == "" {
			lines = []string{"\n"} // a write of nothing would not reach the kernel
		}
		for _, line := range lines {
			if err := writeFile(s.dir, s.file, line); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("restore: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// explain names the cause that the kernel's word for it hides.
func explain(s step, err error) error {
	if s.file == "memory.limit_in_bytes" && errors.Is(err, unix.EBUSY) {
		usage, _ := readUint(s.dir, "memory.usage_in_bytes")
		return fmt.Errorf("%w: memory limit %s is below the %d bytes in use that cannot be reclaimed", pod.ErrState, s.value, usage)
	}
	return err
}
