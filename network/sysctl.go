package network

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// A sysctl is set by writing its file below /proc/sys on a thread that is inside the
// pod's namespaces: the kernel picks the table of the writer's namespace (net:
// net/sysctl_net.c, ipc: ipc/ipc_sysctl.c, mqueue: ipc/mq_sysctl.c). Whatever is not
// in one of these tables is the host's, so the name decides before anything is
// opened, and names and values never pass through another program's syntax
// (CVE-2022-0811 was a value with a plus sign).

// maxSysctlValue bounds a value, in bytes; the kernel takes at most a page.
const maxSysctlValue = 4096

// sysctlName is what Kubernetes accepts, in the form with dots. Neither a slash nor
// an empty or dotted-up element can be written with it.
var sysctlName = regexp.MustCompile(`^[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-_a-z0-9]*[a-z0-9])?)+$`)

// checkSysctl refuses a name or value that is malformed or not namespaced, whatever
// the pod owns. Errors are pod.ErrInvalid and name the sysctl.
func checkSysctl(name, value string) error {
	if len(name) > 253 || !sysctlName.MatchString(name) {
		return fmt.Errorf("%w: sysctl %.260q: the name is not of the form a.b.c", pod.ErrInvalid, name)
	}
	if sysctlNamespace(name) == 0 {
		return fmt.Errorf("%w: sysctl %s is not namespaced: it would change the host", pod.ErrInvalid, name)
	}
	if len(value) > maxSysctlValue {
		return fmt.Errorf("%w: sysctl %s: the value has %d bytes, at most %d are allowed", pod.ErrInvalid, name, len(value), maxSysctlValue)
	}
	if i := strings.IndexFunc(value, forbiddenInValue); i >= 0 {
		return fmt.Errorf("%w: sysctl %s: the value holds %q, which is not allowed", pod.ErrInvalid, name, value[i])
	}
	return nil
}

func forbiddenInValue(r rune) bool {
	return r == '+' || r == '=' || (r < ' ' && r != '\t') || r > '~'
}

// sysctlNamespace returns the CLONE_NEW* bit of the namespace that holds the sysctl,
// or 0 when it belongs to the host.
func sysctlNamespace(name string) int {
	switch {
	case strings.HasPrefix(name, "net."):
		return unix.CLONE_NEWNET
	case strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem",
		strings.HasPrefix(name, "fs.mqueue."):
		return unix.CLONE_NEWIPC
	case name == "kernel.domainname":
		return unix.CLONE_NEWUTS
	default:
		return 0
	}
}

var namespaceName = map[int]string{unix.CLONE_NEWNET: "network", unix.CLONE_NEWIPC: "IPC", unix.CLONE_NEWUTS: "UTS"}

// planSysctls merges the pod's sysctls over the configured ones and checks them
// against the namespaces that the pod owns (CLONE_NEW* bits).
func planSysctls(configured, requested map[string]string, owned int) (map[string]string, error) {
	plan := map[string]string{}
	for name, value := range configured {
		if sysctlNamespace(name)&owned != 0 {
			plan[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(requested)) {
		if err := checkSysctl(name, requested[name]); err != nil {
			return nil, err
		}
		if need := sysctlNamespace(name); need&owned == 0 {
			return nil, fmt.Errorf("%w: sysctl %s needs a %s namespace of the pod's own, and the pod uses the host's", pod.ErrInvalid, name, namespaceName[need])
		}
		plan[name] = requested[name]
	}
	return plan, nil
}

// applySysctls writes the plan from the calling thread, which is thrown away
// afterwards, in order of names. root is the host's uid of the user namespace's
// root, 0 without one.
func applySysctls(plan map[string]string, root uint32) error {
	var asMappedRoot []string
	for _, name := range slices.Sorted(maps.Keys(plan)) {
		err := writeSysctl(name, plan[name])
		if errors.Is(err, unix.EACCES) && root != 0 {
			asMappedRoot = append(asMappedRoot, name)
		} else if err != nil {
			return err
		}
	}
	if len(asMappedRoot) == 0 {
		return nil
	}
	return asUser(root, func() error {
		for _, name := range asMappedRoot {
			if err := writeSysctl(name, plan[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

var dumpable sync.Mutex // guards the process's dumpable flag while it is put back

// asUser runs fn with the calling thread's effective uid changed, for good: since
// Linux 5.19 only the root of its user namespace may write an IPC namespace's sysctls
// (ipc_permissions in ipc/ipc_sysctl.c), whatever capabilities the host's root has.
// Changing an identity makes the kernel take the whole process's dumpable flag away;
// it is put back.
func asUser(uid uint32, fn func() error) error {
	dumpable.Lock()
	defer dumpable.Unlock()
	before, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("get dumpable flag: %w", err)
	}
	keep := ^uintptr(0)
	// The raw call changes this thread only; the standard library's changes all of them.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return fmt.Errorf("become uid %d: %w", uid, errno)
	}
	err = fn()
	if before == 1 {
		err = errors.Join(err, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
	}
	return err
}

func writeSysctl(name, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if os.IsNotExist(err) {
		return fmt.Errorf("%w: sysctl %s: this kernel has no such setting in a pod's namespace", pod.ErrInvalid, name)
	}
	if err != nil {
		return fmt.Errorf("set sysctl %s: %w", name, err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("set sysctl %s: %s is not on a proc file system", name, path)
	}
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("%w: sysctl %s cannot be set to %q: %w", pod.ErrInvalid, name, value, err)
	}
	return nil
}
