package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Mode is how the host mounts its cgroups.
type Mode uint8

// The modes. Hybrid is v1 with an additional v2 hierarchy: containers are in both,
// limits are v1's, pressure figures v2's.
const (
	V1 Mode = iota + 1
	Hybrid
	V2
)

// String returns v1, hybrid or v2.
func (m Mode) String() string {
	switch m {
	case V1:
		return "v1"
	case Hybrid:
		return "hybrid"
	case V2:
		return "v2"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// The drivers: who makes cgroups.
const (
	Cgroupfs = "cgroupfs"
	Systemd  = "systemd"
)

// DefaultParent is where pods go for which nobody chose a place. It is made with
// the first of them and removed with the last.
const DefaultParent = "/vitrine"

// Config of the room.
type Config struct {
	// Driver is Cgroupfs or Systemd; empty means systemd where it runs. It has to be
	// kubelet's.
	Driver string `toml:"driver"`
	// NoWarm turns Warm off.
	NoWarm bool `toml:"no_warm"`
}

// Cgroups is the host's cgroup file systems. It is safe for concurrent use.
type Cgroups struct {
	config Config
	mounts mounts
	warm   warmer
	kept   kept
	made   sync.Mutex // orders making and removing below DefaultParent
}

// New finds out how this host does it. It fails with pod.ErrUnsupported when no
// usable hierarchy is mounted or the driver cannot work.
func New(config Config) (*Cgroups, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	c := &Cgroups{config: config, mounts: parseMounts(string(info))}
	if len(c.mounts.v1) == 0 && c.mounts.v2 == "" {
		return nil, fmt.Errorf("find cgroup mounts: %w: no cgroup file system is mounted", pod.ErrUnsupported)
	}
	switch config.Driver {
	case "":
		c.config.Driver = Cgroupfs
		if systemdRuns() {
			c.config.Driver = Systemd
		}
	case Systemd:
		if !systemdRuns() {
			return nil, fmt.Errorf("%w: cgroup driver systemd: /run/systemd/system does not exist", pod.ErrUnsupported)
		}
	case Cgroupfs:
	default:
		return nil, fmt.Errorf("%w: cgroup driver %.40q is neither cgroupfs nor systemd", pod.ErrInvalid, config.Driver)
	}
	return c, nil
}

// Close ends what Warm started and waits for it, and closes what Stats keeps open.
func (c *Cgroups) Close() error {
	c.warm.close()
	c.kept.close()
	return nil
}

// Mode returns how the host mounts its cgroups.
func (c *Cgroups) Mode() Mode { return c.mounts.mode() }

// Driver returns Cgroupfs or Systemd.
func (c *Cgroups) Driver() string { return c.config.Driver }

func systemdRuns() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// mounts says where hierarchies are mounted.
type mounts struct {
	// v1 is by controller; a named hierarchy has the key name=….
	v1 map[string]string
	// v2 is the unified hierarchy, empty without one.
	v2 string
	// localEvents: v2's events are counted in their own cgroup alone.
	localEvents bool
}

func (m mounts) mode() Mode {
	switch {
	case m.v2 == "":
		return V1
	case slices.ContainsFunc(m.controllers(), func(name string) bool { return !strings.HasPrefix(name, "name=") }):
		return Hybrid
	}
	return V2
}

// controllers of v1, sorted.
func (m mounts) controllers() []string {
	names := make([]string, 0, len(m.v1))
	for name := range m.v1 {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// parseMounts reads mountinfo (proc_pid_mountinfo(5)). Of several mounts of one
// hierarchy the one below /sys/fs/cgroup wins, else the first.
func parseMounts(mountinfo string) mounts {
	m := mounts{v1: map[string]string{}}
	usual := func(dir string) bool { return strings.HasPrefix(dir, "/sys/fs/cgroup") }
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		dir := unescape(head[4])
		switch tail[0] {
		case "cgroup2":
			if m.v2 == "" || usual(dir) && !usual(m.v2) {
				m.v2 = dir
			}
			// An option of the hierarchy, whichever of its mounts says so.
			if slices.Contains(strings.Split(tail[2], ","), "memory_localevents") {
				m.localEvents = true
			}
		case "cgroup":
			for option := range strings.SplitSeq(tail[2], ",") {
				if old := m.v1[option]; isController(option) && (old == "" || usual(dir) && !usual(old)) {
					m.v1[option] = dir
				}
			}
		}
	}
	return m
}

// v1Controllers are the names that can be super block options of a v1 hierarchy.
var v1Controllers = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc",
	"net_cls", "net_prio", "perf_event", "pids", "rdma"}

func isController(option string) bool {
	return slices.Contains(v1Controllers, option) || strings.HasPrefix(option, "name=")
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// dir is where the controller keeps the cgroup; empty when it is not mounted. On v2
// all controllers share one directory.
func (c *Cgroups) dir(controller, fsPath string) string {
	root := c.mounts.v2
	if c.Mode() != V2 {
		root = c.mounts.v1[controller]
	}
	if root == "" {
		return ""
	}
	return filepath.Join(root, filepath.Clean("/"+fsPath))
}

// hybridMount is where a hybrid host's v2 hierarchy has to be for libcontainer to
// put containers into it.
const hybridMount = "/sys/fs/cgroup/unified"

// unifiedDir is the cgroup's directory in the v2 hierarchy; empty when containers
// are in none.
func (c *Cgroups) unifiedDir(fsPath string) string {
	if c.Mode() == V2 || c.Mode() == Hybrid && c.mounts.v2 == hybridMount {
		return filepath.Join(c.mounts.v2, filepath.Clean("/"+fsPath))
	}
	return ""
}

// Dirs lists the cgroup's directories, existing or not: one on v2, one per
// hierarchy on v1 and hybrid, each once and sorted.
func (c *Cgroups) Dirs(fsPath string) []string {
	var dirs []string
	if dir := c.unifiedDir(fsPath); dir != "" {
		dirs = append(dirs, dir)
	}
	if c.Mode() == V2 {
		return dirs
	}
	for name := range c.mounts.v1 {
		dirs = append(dirs, c.dir(name, fsPath))
	}
	if c.mounts.v2 != "" {
		dirs = append(dirs, filepath.Join(c.mounts.v2, filepath.Clean("/"+fsPath)))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// mainDir is the directory whose existence means that of the cgroup: the memory
// controller's, else another one's that every container is put into.
func (c *Cgroups) mainDir(fsPath string) string {
	for _, name := range []string{"memory", "pids", "cpu", "devices", "freezer"} {
		if dir := c.dir(name, fsPath); dir != "" {
			return dir
		}
	}
	return c.Dirs(fsPath)[0]
}

// gone is the error for a cgroup that does not exist.
func gone(fsPath string) error { return fmt.Errorf("cgroup %s: %w", fsPath, pod.ErrNotFound) }
