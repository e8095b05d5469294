package cgroup

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
)

// sleeper is a process in a cgroup of every hierarchy; it is gone when its function returns.
func sleeper(t *testing.T, c *Cgroups, fsPath string) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(end)
	for _, dir := range c.Dirs(fsPath) {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return cmd.Process.Pid, end
}

// wantProcesses reads three times: by what is not open, by what the first reading has
// opened, and by what the second one has used.
func wantProcesses(t *testing.T, c *Cgroups, fsPath, when string, want ...int) {
	t.Helper()
	slices.Sort(want)
	for i := range 3 {
		f := c.figures(fsPath)
		got, err := f.processes()
		f.end()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s, reading %d: processes %v, %v, want %v", when, i, got, err, want)
		}
	}
}

func TestProcessesAreThoseOfNowByFilesThatStayOpen(t *testing.T) {
	c, parent := open(t)
	c.makeForTest(t, parent, Resources{})
	c.makeForTest(t, parent+"/a", Resources{})
	wantProcesses(t, c, parent, "none")
	a, endA := sleeper(t, c, parent+"/a")
	wantProcesses(t, c, parent, "one below", a)
	a2, _ := sleeper(t, c, parent+"/a")
	wantProcesses(t, c, parent, "two", a, a2)
	wantProcesses(t, c, parent+"/a", "two in it", a, a2)
	c.makeForTest(t, parent+"/b", Resources{})
	b, endB := sleeper(t, c, parent+"/b")
	wantProcesses(t, c, parent, "another cgroup", a, a2, b)
	endA()
	wantProcesses(t, c, parent, "one has ended", a2, b)

	// The same number of cgroups, of the same names, and not the same.
	endB()
	if err := c.Remove(parent + "/b"); err != nil {
		t.Fatal(err)
	}
	if left := openBelow(t, parent+"/b"); len(left) != 0 {
		t.Errorf("removed, and %v are open", left)
	}
	c.makeForTest(t, parent+"/b", Resources{})
	wantProcesses(t, c, parent, "an empty one", a2)
	for _, dir := range c.Dirs(parent + "/b") { // by somebody who tells nobody
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	c.makeForTest(t, parent+"/b", Resources{})
	again, _ := sleeper(t, c, parent+"/b")
	wantProcesses(t, c, parent, "replaced", a2, again)
}

func TestAListThatStaysOpenIsOfWhoIsInAllHierarchies(t *testing.T) {
	c, parent := open(t)
	if c.unifiedDir(parent) == "" || c.Mode() == V2 {
		if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err == nil {
			t.Fatal("a hierarchy of v2 is mounted beside those of v1, and is not found")
		}
		t.Skip("needs a hierarchy of v2 mounted beside those of v1")
	}
	c.makeForTest(t, parent+"/a", Resources{})
	pid, _ := sleeper(t, c, parent+"/a")
	// As somebody leaves it who knows v1 alone.
	if err := os.WriteFile(c.mounts.v2+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
	wantProcesses(t, c, parent+"/a", "not in v2", pid)
}

func TestACgroupOfManyKeepsNoListOpen(t *testing.T) {
	c, parent := open(t)
	for i := range maxTasks {
		c.makeForTest(t, parent+"/"+strconv.Itoa(i), Resources{})
	}
	pid, _ := sleeper(t, c, parent+"/7")
	wantProcesses(t, c, parent, "too many", pid)
	if c.kept.open != 0 || len(openBelow(t, parent)) != 0 {
		t.Errorf("%d counted, open %v", c.kept.open, openBelow(t, parent))
	}
}

// A page of the list is 4 KiB, some 500 processes.
func TestALongListIsReadToItsEnd(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var want []int
	for pid := 1; pid <= 20000; pid++ {
		want = append(want, pid)
		if _, err := file.WriteString(strconv.Itoa(pid) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got, err := readPIDs(int(file.Fd()), nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%d of %d, %v", len(got), len(want), err)
		}
	}
}

// What is frozen stays so: nothing was frozen and thawed for nobody.
func TestKillOfNobodyLeavesTheFreezerAlone(t *testing.T) {
	c, parent := open(t)
	path := parent + "/a"
	c.makeForTest(t, path, Resources{})
	if c.Mode() == V2 || c.dir("freezer", path) == "" {
		if _, err := os.Stat("/sys/fs/cgroup/freezer/cgroup.procs"); err == nil {
			t.Fatal("a freezer of v1 is mounted, and is not found")
		}
		t.Skip("needs the freezer of cgroup v1 (CONFIG_CGROUP_FREEZER)")
	}
	freezer := c.freezerOf(path)
	if !freezer.freeze() {
		t.Fatal("an empty cgroup cannot be frozen")
	}
	defer freezer.thaw()
	if err := c.Kill(path); err != nil || !freezer.frozen(freezer.dir) {
		t.Errorf("%v, frozen %v", err, freezer.frozen(freezer.dir))
	}
	freezer.thaw()
	// One below may have somebody.
	c.makeForTest(t, path+"/b", Resources{})
	cmd := exec.Command("/bin/sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for _, dir := range c.Dirs(path + "/b") {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := c.Kill(path); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("%v", err)
	}
}
