package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// maxDepth bounds the walk below a cgroup: a container that may make cgroups
// decides how deep they go.
const maxDepth = 64

// Procs lists the processes of a cgroup and of those below it, sorted. It is
// pod.ErrNotFound when the cgroup does not exist. Processes that this process
// cannot see are left out.
func (c *Cgroups) Procs(fsPath string) ([]int, error) {
	dir := c.mainDir(fsPath)
	pids, err := procsBelow(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gone(fsPath)
	}
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %s: %w", fsPath, err)
	}
	return pids, nil
}

func procsBelow(dir string) ([]int, error) {
	var pids []int
	err := walk(dir, 0, func(dir string) error {
		own, err := procsOf(dir)
		pids = append(pids, own...)
		return err
	})
	return sorted(pids), err
}

// procsOf opens the file each time. On v1 one that stays open tells the list of its first
// reading for as long as it is read more often than once a second (kernel/cgroup/cgroup-v1.c,
// CGROUP_PIDLIST_DESTROY_DELAY).
func procsOf(dir string) ([]int, error) {
	text, err := readFile(dir, "cgroup.procs")
	if errors.Is(err, unix.EOPNOTSUPP) { // a threaded cgroup: its domain above lists them
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parsePIDs(text, nil), nil
}

// walk calls fn for dir and then for all cgroups below it. One that goes away
// meanwhile is passed over, except dir itself.
func walk(dir string, depth int, fn func(string) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: cgroups below %s nest deeper than %d", pod.ErrExhausted, dir, maxDepth)
	}
	if err := fn(dir); err != nil {
		return err
	}
	below, err := subdirs(dir)
	if err != nil {
		return err
	}
	for _, name := range below {
		if err := walk(dir+"/"+name, depth+1, fn); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// subdirs lists the cgroups right below dir. A cgroup's link count says whether
// there are any, which saves listing its fifty files.
func subdirs(dir string) ([]string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	if st.Nlink == 2 {
		return nil, nil
	}
	names, err := directories(dir)
	if errors.Is(err, unix.ENODEV) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	return names, nil
}

// directories lists the directories in dir, in no order. A cgroup has some fifty files
// beside its one or two directories: no entry is made for those.
func directories(dir string) (names []string, err error) {
	fd, err := retryEINTR(func() (int, error) { return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		room := (*buf)[:cap(*buf)]
		n, err := retryEINTR(func() (int, error) { return unix.Getdents(fd, room) })
		if err != nil || n == 0 {
			return names, err
		}
		for list := room[:n]; len(list) > 0; { // struct linux_dirent64, getdents(2)
			if len(list) < 20 || len(list) < int(binary.NativeEndian.Uint16(list[16:])) || binary.NativeEndian.Uint16(list[16:]) < 20 {
				return nil, fmt.Errorf("%w: the kernel's list of entries is malformed", pod.ErrUnavailable)
			}
			length, kind := binary.NativeEndian.Uint16(list[16:]), list[18]
			if name, _, _ := bytes.Cut(list[19:length], []byte{0}); kind == unix.DT_DIR && string(name) != "." && string(name) != ".." {
				names = append(names, string(name))
			}
			list = list[length:]
		}
	}
}

// ownCgroups maps this process's cgroups by controller; v2's key is empty
// (cgroups(7), /proc/PID/cgroup).
func ownCgroups() (map[string]string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find own cgroup: %w", err)
	}
	return parseOwn(string(text)), nil
}

func parseOwn(text string) map[string]string {
	own := map[string]string{}
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(controllers, ",") {
			own[name] = path
		}
	}
	return own
}
