package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBareMountsHoldNothingThatComesAndGoes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	volume := filepath.Join(t.TempDir(), "volume")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	mount := func() {
		t.Helper()
		if err := unix.Mount("volume", volume, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	t.Cleanup(func() { _ = unix.Unmount(volume, unix.MNT_DETACH) })
	places, err := barePlaces()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBareMounts()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	type sight struct {
		places []string
		err    error
	}
	look := func() sight {
		seen := make(chan sight)
		go func() {
			runtime.LockOSThread()
			if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(b.file.Fd()), unix.CLONE_NEWNS)); err != nil {
				seen <- sight{err: err}
				return
			}
			var s sight
			raw, err := os.ReadFile("/proc/thread-self/mountinfo")
			s.err = err
			for line := range strings.Lines(string(raw)) {
				fields := strings.Fields(line)
				s.places = append(s.places, fields[4])
				if fields[6] != "-" { // shared: and master: stand there
					s.err = errors.Join(s.err, errors.New(line))
				}
			}
			seen <- s
		}()
		return <-seen
	}
	check := func(when string) {
		t.Helper()
		s := look()
		slices.Sort(s.places)
		slices.Sort(places)
		if s.err != nil || !slices.Equal(s.places, places) {
			t.Fatalf("%s its mounts are %q (%v), not %q", when, s.places, s.err, places)
		}
	}
	check("at first")
	if err := unix.Unmount(volume, 0); err != nil {
		t.Fatal(err)
	}
	mount()
	check("after another mount")
}
