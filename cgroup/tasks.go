package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// tasks are the open files of a cgroup, and of those below it, that tell its processes.
// They are of the v2 hierarchy: a v1 list that stays open goes on telling what it told
// first (see procsOf). Opening the list, and finding out whether there are cgroups below,
// takes ten times as long as reading both by what is open.
type tasks struct {
	procs int // cgroup.procs
	dir   int // the directory, whose link count is two and the number of cgroups below
	below []*tasks
}

// maxTasks bounds the cgroups of one tree whose files stay open: a container that may make
// cgroups decides how many there are.
const maxTasks = 32

// errTasksChanged says that the tree is no longer what was opened.
var errTasksChanged = errors.New("the cgroup, or one below it, is no longer there, or there are others")

// processes lists the processes of the cgroup and of those below it, sorted.
func (f *figures) processes() ([]int, error) {
	if f.tasks != nil {
		if pids, err := f.tasks.read(nil); err == nil {
			return sorted(pids), nil
		}
		f.closeTasks()
	}
	pids, err := procsBelow(f.dir("pids"))
	if err == nil && f.dir(unified) != "" {
		f.keepTasks(pids)
	}
	return pids, err
}

// keepTasks opens the files for the next reading. They stay open only if they tell the same
// now: on a hybrid host somebody may have left processes out of the v2 hierarchy, and a
// process that comes or goes meanwhile leaves it to the next reading. What fails here costs
// time and nothing else.
func (f *figures) keepTasks(pids []int) {
	if !f.of.kept.count(2) { // no room for any
		return
	}
	f.of.kept.count(-2)
	room := maxTasks
	t, err := openTasks(f.dir(unified), &room)
	if err != nil {
		return
	}
	n := 2 * (maxTasks - room)
	told, err := t.read(nil)
	same := f.of.Mode() == V2 || slices.Equal(sorted(told), pids)
	if err != nil || !same || f.ended || !f.of.kept.count(n) {
		t.close()
		return
	}
	f.tasks, f.opened = t, n
}

// closeTasks closes what processes left open; f.mu is held.
func (f *figures) closeTasks() {
	if f.tasks == nil {
		return
	}
	f.tasks.close()
	f.of.kept.count(-f.opened)
	f.tasks, f.opened = nil, 0
}

// openTasks opens a tree of at most *room cgroups, and takes from it those that there are.
func openTasks(dir string, room *int) (_ *tasks, err error) {
	if *room == 0 {
		return nil, fmt.Errorf("%w: more than %d cgroups are below one another", pod.ErrExhausted, maxTasks)
	}
	*room--
	t := &tasks{procs: -1, dir: -1}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.dir, err = retryEINTR(func() (int, error) { return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if t.procs, err = retryEINTR(func() (int, error) {
		return unix.Openat(t.dir, "cgroup.procs", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}); err != nil {
		return nil, err
	}
	names, err := subdirs(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		one, err := openTasks(dir+"/"+name, room)
		if err != nil {
			return nil, err
		}
		t.below = append(t.below, one)
	}
	return t, nil
}

func (t *tasks) close() {
	for _, fd := range []int{t.procs, t.dir} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	for _, one := range t.below {
		one.close()
	}
}

// read appends the processes of the tree, in no order. As many cgroups below as were
// opened, all of which are still there, are the same ones: a list of one that has gone
// tells ENODEV, also when another has come under its name.
func (t *tasks) read(pids []int) ([]int, error) {
	pids, err := readPIDs(t.procs, pids)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(t.dir, &st); err != nil || int(st.Nlink)-2 != len(t.below) {
		return nil, errTasksChanged
	}
	for _, one := range t.below {
		if pids, err = one.read(pids); err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// readPIDs appends what an open cgroup.procs lists.
func readPIDs(fd int, pids []int) ([]int, error) {
	text, err := readAll(fd)
	if err != nil {
		return nil, fmt.Errorf("read cgroup.procs: %w", err)
	}
	return parsePIDs(text, pids), nil
}

// parsePIDs appends the numbers of a list, one a line. 0 stands for a process of another
// pid namespace.
func parsePIDs(text string, pids []int) []int {
	for line := range strings.Lines(text) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sorted sorts processes and leaves each in it once.
func sorted(pids []int) []int {
	slices.Sort(pids)
	return slices.Compact(pids)
}
