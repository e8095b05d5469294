package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
)

// Confined is nil when a process that criu has made of an archive is as confined as the
// specification says, whatever the archive's images say: its namespaces, every thread's
// capabilities and filters, and its mounts. It asks the kernel, not the archive, and must be
// asked before the process runs. The error says in a line what is otherwise.
func Confined(s *specs.Spec, pid int) error {
	if err := verifyNamespaces(s, pid); err != nil {
		return err
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, t := range threads {
		status, err := stoppedStatus(fmt.Sprintf("/proc/%d/task/%s/status", pid, t.Name()))
		if err != nil {
			return err
		}
		if err := verifyStatus(s, status); err != nil {
			return err
		}
	}
	mounts, err := mountinfo.PidMountInfo(pid)
	if err != nil {
		return err
	}
	return verifyMounts(s, fmt.Sprintf("/proc/%d/root", pid), mounts)
}

// verifyNamespaces: those with a path are the pod's, the others are not the host's, as far
// as the specification has them.
func verifyNamespaces(s *specs.Spec, pid int) error {
	files := map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid", specs.MountNamespace: "mnt",
	}
	for kind, file := range files {
		asked := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
		want, other := "/proc/self/ns/"+file, false
		if asked >= 0 {
			if want, other = s.Linux.Namespaces[asked].Path, false; want == "" {
				want, other = "/proc/self/ns/"+file, true
			}
		}
		same, err := sameFile(want, fmt.Sprintf("/proc/%d/ns/%s", pid, file))
		if err != nil {
			return err
		}
		if same == other {
			return fmt.Errorf("its %s namespace is another one", file)
		}
	}
	if same, err := sameFile("/proc/self/ns/user", fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil || !same {
		return fmt.Errorf("it has a user namespace (%w)", err)
	}
	return nil
}

func sameFile(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return os.SameFile(x, y), nil
}

// stopTime bounds how long a thread takes to notice the signal that stops it: criu has
// sent it, and lets go of a thread that may have to wait for a processor.
const stopTime = 10 * time.Second

// stoppedStatus reads a thread's status once it is stopped, or when stopTime is over.
func stoppedStatus(path string) ([]byte, error) {
	for deadline := time.Now().Add(stopTime); ; time.Sleep(time.Millisecond) {
		status, err := os.ReadFile(path)
		if err != nil || isStopped(status) || time.Now().After(deadline) {
			return status, err
		}
	}
}

func isStopped(status []byte) bool {
	state, _ := proc.Field(status, "State")
	return state == "T (stopped)"
}

// verifyStatus compares a thread's /proc/PID/status, proc_pid_status(5): it has no
// capability that the request does not give, a filter where one is asked for, and cannot
// gain privileges where the request says so.
func verifyStatus(s *specs.Spec, status []byte) error {
	is := func(key, value string) bool { got, _ := proc.Field(status, key); return got == value }
	var caps specs.LinuxCapabilities
	if c := s.Process.Capabilities; c != nil {
		caps = *c
	}
	for _, set := range []struct {
		line  string
		given []string
	}{{"CapBnd", caps.Bounding}, {"CapPrm", caps.Bounding}, {"CapEff", caps.Bounding}, {"CapInh", caps.Bounding}, {"CapAmb", caps.Bounding}} {
		for _, name := range spec.CapabilityNames(proc.Mask(status, set.line)) {
			if !slices.Contains(set.given, name) {
				return fmt.Errorf("%s has %s", set.line, name)
			}
		}
	}
	if s.Linux.Seccomp != nil && !is("Seccomp", "2") {
		return fmt.Errorf("it has no seccomp filter")
	}
	if s.Process.NoNewPrivileges && !is("NoNewPrivs", "1") {
		return fmt.Errorf("it may gain privileges")
	}
	if !isStopped(status) {
		return fmt.Errorf("it runs already")
	}
	return nil
}

// verifyMounts: what the specification masks or write-protects is so, a mount of its is of
// its kind and its source, and there is no other mount than those.
func verifyMounts(s *specs.Spec, root string, mounts []*mountinfo.Info) error {
	at := map[string]*mountinfo.Info{}
	for _, m := range mounts {
		at[m.Mountpoint] = m // the last one covers the others
	}
	known := map[string]bool{"/": true}
	readonly := func(path string) bool {
		m := at[path]
		return m != nil && slices.Contains(strings.Split(m.Options, ","), "ro")
	}
	if s.Root.Readonly && !readonly("/") {
		return fmt.Errorf("its root file system is writable")
	}
	for _, m := range s.Mounts {
		place := filepath.Clean(m.Destination)
		known[place] = true
		is := at[place]
		switch bind := slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind"); {
		case is == nil:
			return fmt.Errorf("nothing is mounted at %s", place)
		case bind:
			var st unix.Stat_t
			if err := unix.Stat(m.Source, &st); err != nil {
				return err
			}
			if int(unix.Major(st.Dev)) != is.Major || int(unix.Minor(st.Dev)) != is.Minor {
				return fmt.Errorf("something else is mounted at %s", place)
			}
		case m.Type != is.FSType && m.Type != "cgroup":
			return fmt.Errorf("a %.20q is mounted at %s", is.FSType, place)
		}
		if slices.Contains(m.Options, "ro") && !readonly(place) && m.Type != "cgroup" {
			return fmt.Errorf("%s is writable", place)
		}
	}
	for _, path := range s.Linux.MaskedPaths {
		known[path] = true
		masked := at[path] != nil && at[path].FSType != "proc" && at[path].FSType != "sysfs"
		if unix.Faccessat(unix.AT_FDCWD, root+path, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil && !masked {
			return fmt.Errorf("%s is not masked", path)
		}
	}
	for _, path := range s.Linux.ReadonlyPaths {
		known[path] = true
		if unix.Faccessat(unix.AT_FDCWD, root+path, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil && !readonly(path) {
			return fmt.Errorf("%s is writable", path)
		}
	}
	for place, m := range at {
		if !known[place] && !mayMount(s, place) {
			return fmt.Errorf("%.200q is a mount that the request does not have", place)
		}
		// Where v1 hierarchies are mounted is a tmpfs, which libcontainer leaves writable.
		if (m.FSType == "cgroup" || m.FSType == "cgroup2") && !readonly(place) && cgroupsReadonly(s) {
			return fmt.Errorf("%.200q is writable", place)
		}
	}
	return nil
}

// mayMount: control groups come as several mounts below one, binds bring what is mounted
// below them where they are recursive, and devices may be binds of the host's.
func mayMount(s *specs.Spec, place string) bool {
	for _, m := range s.Mounts {
		if (m.Type == "cgroup" || slices.Contains(m.Options, "rbind")) && strings.HasPrefix(place, filepath.Clean(m.Destination)+"/") {
			return true
		}
	}
	return slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == place })
}

// cgroupsReadonly: the specification does not let the container write control groups.
func cgroupsReadonly(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" && slices.Contains(m.Options, "ro") })
}
