package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// NamespaceRequest says which namespaces a pod owns and how they start out.
type NamespaceRequest struct {
	// ID is the sandbox; it becomes a path element.
	ID string
	// Net, IPC and UTS ask for a new namespace of the kind.
	Net, IPC, UTS bool
	// Hostname is set in the new UTS namespace, at most 64 bytes. Empty keeps the
	// host's; without UTS it is not used.
	Hostname string
	// Sysctls are set inside, over Config.Sysctls. One whose namespace is not asked
	// for is refused.
	Sysctls map[string]string
	// UserNS, when not nil, asks for a new user namespace too, which owns the others.
	UserNS *UserNS
}

// UserNS describes a new user namespace.
type UserNS struct{ UIDs, GIDs []IDMap }

// root is the host's uid of the namespace's root, 0 when there is none.
func (u *UserNS) root() uint32 {
	if u == nil {
		return 0
	}
	for _, m := range u.UIDs {
		if m.Container == 0 && m.Size > 0 {
			return m.Host
		}
	}
	return 0
}

// IDMap maps Size ids that begin at Container inside to those that begin at Host.
type IDMap struct{ Container, Host, Size uint32 }

// kinds are the namespaces that are pinned, in the order in which they are entered:
// pins are named as /proc/PID/ns names them.
var kinds = []struct {
	name string
	flag int
}{
	{"user", unix.CLONE_NEWUSER},
	{"net", unix.CLONE_NEWNET},
	{"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS},
}

// CreateNamespaces makes the pod's namespaces with one unshare on a thread that is
// then thrown away, brings loopback up, sets hostname and sysctls, and pins them by
// bind mounts. Nothing stays behind after an error. The paths belong to the network
// until RemoveNamespaces. Asked for nothing, it does nothing.
func (n *Network) CreateNamespaces(ctx context.Context, req NamespaceRequest) (paths pod.Namespaces, err error) {
	_, span := telemetry.Start(ctx, "network.namespaces", telemetry.KeySandboxID.String(req.ID))
	defer span.End(&err)
	flags := req.flags()
	plan, err := req.check(n.config.Sysctls, flags)
	if err != nil {
		return pod.Namespaces{}, fmt.Errorf("create namespaces of %.64s: %w", req.ID, err)
	}
	if flags == 0 {
		return pod.Namespaces{}, nil
	}
	dir := filepath.Join(n.config.Dir, req.ID)
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return pod.Namespaces{}, fmt.Errorf("create namespaces of %s: %w", req.ID, pod.ErrExists)
	} else if err != nil {
		return pod.Namespaces{}, fmt.Errorf("create namespaces: %w", err)
	}
	if err := makeAndPin(dir, req, flags, plan); err != nil {
		return pod.Namespaces{}, fmt.Errorf("create namespaces of %s: %w", req.ID, errors.Join(err, removePins(dir)))
	}
	return pinnedPaths(dir, flags), nil
}

func (r NamespaceRequest) flags() int {
	flags := 0
	for _, want := range []struct {
		asked bool
		flag  int
	}{{r.Net, unix.CLONE_NEWNET}, {r.IPC, unix.CLONE_NEWIPC}, {r.UTS, unix.CLONE_NEWUTS}, {r.UserNS != nil, unix.CLONE_NEWUSER}} {
		if want.asked {
			flags |= want.flag
		}
	}
	return flags
}

// check refuses what would fail halfway, and returns the sysctls to set.
func (r NamespaceRequest) check(configured map[string]string, flags int) (map[string]string, error) {
	if err := checkID(r.ID); err != nil {
		return nil, err
	}
	if len(r.Hostname) > 64 {
		return nil, fmt.Errorf("%w: hostname %.80q has %d bytes, the kernel takes at most 64", pod.ErrInvalid, r.Hostname, len(r.Hostname))
	}
	if r.UserNS != nil && (len(r.UserNS.UIDs) == 0 || len(r.UserNS.GIDs) == 0) {
		return nil, fmt.Errorf("%w: a user namespace needs a mapping of uids and one of gids", pod.ErrInvalid)
	}
	return planSysctls(configured, r.Sysctls, flags)
}

func makeAndPin(dir string, req NamespaceRequest, flags int, sysctls map[string]string) error {
	if req.UserNS != nil {
		if err := makeOwned(*req.UserNS, flags, func(proc string) error { return pinAll(dir, proc, flags) }); err != nil {
			return err
		}
		return onThread(func() error {
			for _, k := range kinds {
				if k.flag == unix.CLONE_NEWUSER || flags&k.flag == 0 {
					continue // a process with threads cannot enter a user namespace; root needs not
				}
				if err := enter(filepath.Join(dir, k.name), k.flag); err != nil {
					return err
				}
			}
			return configure(req, flags, sysctls)
		})
	}
	return onThread(func() error {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := configure(req, flags, sysctls); err != nil {
			return err
		}
		return pinAll(dir, "/proc/thread-self/ns", flags)
	})
}

// ConfigureNamespaces sets hostname and sysctls of a pod's pinned namespaces anew: criu
// gives the namespaces that it restores processes into those of the processes' old ones.
func (n *Network) ConfigureNamespaces(req NamespaceRequest) error {
	flags := req.flags()
	plan, err := req.check(n.config.Sysctls, flags)
	if err == nil && flags != 0 {
		err = onThread(func() error {
			for _, k := range kinds {
				if flags&k.flag == 0 {
					continue
				}
				if err := enter(filepath.Join(n.config.Dir, req.ID, k.name), k.flag); err != nil {
					return err
				}
			}
			return configure(req, flags, plan)
		})
	}
	if err != nil {
		return fmt.Errorf("configure namespaces of %s: %w", req.ID, err)
	}
	return nil
}

// configure sets up the namespaces that the calling thread is in.
func configure(req NamespaceRequest, flags int, sysctls map[string]string) error {
	if flags&unix.CLONE_NEWNET != 0 {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if flags&unix.CLONE_NEWUTS != 0 && req.Hostname != "" {
		if err := unix.Sethostname([]byte(req.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", req.Hostname, err)
		}
	}
	return applySysctls(sysctls, req.UserNS.root())
}

// loopbackUp sets IFF_UP on lo of the calling thread's network namespace; the kernel
// then gives it 127.0.0.1 and ::1 by itself.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// RemoveNamespaces takes the pins away; the kernel frees the namespaces with their
// last process. Absence is success, and so is what a crash left of a creation or removal.
func (n *Network) RemoveNamespaces(ctx context.Context, id string) (err error) {
	_, span := telemetry.Start(ctx, "network.namespaces.remove", telemetry.KeySandboxID.String(id))
	defer span.End(&err)
	if err := checkID(id); err != nil {
		return fmt.Errorf("remove namespaces: %w", err)
	}
	if err := removePins(filepath.Join(n.config.Dir, id)); err != nil {
		return fmt.Errorf("remove namespaces of %s: %w", id, err)
	}
	return nil
}

// Pinned returns the ids of the sandboxes that have namespaces, or the remains of a
// creation or removal that was cut short.
func (n *Network) Pinned() ([]string, error) {
	entries, err := os.ReadDir(n.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("list pinned namespaces: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && checkID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// validID is CNI's rule for container ids, which also keeps them one path element.
var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

func checkID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("%w: sandbox id %.140q: letters, digits, dot, dash and underscore, at most 128, are allowed", pod.ErrInvalid, id)
	}
	return nil
}
