package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestFrozenTellsWhichCgroupWasFrozen(t *testing.T) {
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	root := c.dir("freezer", "/")
	if root == "" || os.Getuid() != 0 {
		t.Skip("no freezer that this user may use")
	}
	upper := filepath.Join(root, "vitrine-frozen-test")
	lower := filepath.Join(upper, "lower")
	if err := os.MkdirAll(lower, 0o755); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	of := c.freezerOf("/vitrine-frozen-test")
	t.Cleanup(func() {
		of.thaw()
		sleep.Process.Kill()
		sleep.Wait()
		for range 100 { // the kernel lets go of a process a moment after its end
			if os.Remove(lower) == nil && os.Remove(upper) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s cannot be removed", lower)
	})
	if err := writeFile(lower, "cgroup.procs", strconv.Itoa(sleep.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	check := func(what string, frozen, itself bool) {
		t.Helper()
		var haveFrozen, haveItself bool
		for range 500 { // freezing takes its time
			if haveFrozen, haveItself, err = c.Frozen("/vitrine-frozen-test/lower"); err != nil {
				t.Fatal(err)
			}
			if haveFrozen == frozen && haveItself == itself {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s: frozen %v, itself %v", what, haveFrozen, haveItself)
	}
	check("nobody", false, false)
	if err := writeFile(upper, of.file, of.stop); err != nil {
		t.Fatal(err)
	}
	check("the one above", true, false)
	of.thaw()
	check("nobody any more", false, false)
	own := c.freezerOf("/vitrine-frozen-test/lower")
	if err := writeFile(lower, own.file, own.stop); err != nil {
		t.Fatal(err)
	}
	check("it itself", true, true)
	own.thaw()
}
