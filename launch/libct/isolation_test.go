package libct_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestContainerJoinsAPinnedNetworkNamespace(t *testing.T) {
	b := newBox(t, "sh", "-c", "readlink /proc/self/ns/net; ip link show pin0")
	path := filepath.Join(b.TempDir(), "net")
	inode := pinNetns(t, path)
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			b.spec.Linux.Namespaces[i].Path = path
		}
	}
	out, code := b.runAll()
	if code != 0 || !strings.Contains(out, inode) || !strings.Contains(out, "pin0") {
		t.Fatalf("not in %s: exit code %d, %q", inode, code, out)
	}
}

// pinNetns makes a network namespace with a link named pin0, bound to path.
func pinNetns(t *testing.T, path string) (inode string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with its namespace
		failed <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := exec.Command("ip", "link", "add", "pin0", "type", "veth", "peer", "name", "pin1").Run(); err != nil {
				return err
			}
			inode, _ = os.Readlink("/proc/thread-self/ns/net")
			return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return inode
}

func TestSeccompFilterIsEnforced(t *testing.T) {
	for _, c := range []struct {
		name      string
		noNewPriv bool
	}{{"with no_new_privs", true}, {"without", false}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, "sh", "-c", "grep Seccomp: /proc/self/status; mkdir /tmp/x || echo refused; hostname; echo alive")
			b.spec.Process.NoNewPrivileges = c.noNewPriv
			b.spec.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
				Syscalls: []specs.LinuxSyscall{
					{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EXDEV))},
				},
			}
			out, code := b.runAll()
			if code != 0 || !strings.Contains(out, "Seccomp:\t2") || !strings.Contains(out, "refused") ||
				!strings.Contains(out, "Invalid cross-device link") || !strings.Contains(out, "alive") {
				t.Fatalf("exit code %d: %s", code, out)
			}
		})
	}
}

func TestCapabilitiesUserAndLimitsAreAsGiven(t *testing.T) {
	b := newBox(t, "sh", "-c", "id -u; id -g; id -G; grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; ulimit -n; pwd; env")
	b.spec.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 2000}}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{
		Bounding: []string{"CAP_NET_BIND_SERVICE"}, Permitted: []string{"CAP_NET_BIND_SERVICE"},
		Inheritable: []string{"CAP_NET_BIND_SERVICE"}, Ambient: []string{"CAP_NET_BIND_SERVICE"}, Effective: []string{"CAP_NET_BIND_SERVICE"},
	}
	b.spec.Process.Cwd = "/data"
	b.spec.Process.Env = append(b.spec.Process.Env, "COLOR=red")
	out, code := b.runAll()
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	for _, want := range []string{"1000\n1000\n", "5", "2000", "CapEff:\t0000000000000400", "CapBnd:\t0000000000000400",
		"CapAmb:\t0000000000000400", "NoNewPrivs:\t1", "1000\n/data\n", "COLOR=red"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %q", want, out)
		}
	}
}

func TestUserMayOpenItsStandardError(t *testing.T) { // the pipe is chowned to the container's user
	b := newBox(t, "sh", "-c", "echo fine >/dev/stderr")
	b.spec.Process.User = specs.User{UID: 1000, GID: 1000}
	if out, code := b.runAll(); code != 0 || out != "fine\n" {
		t.Fatalf("exit code %d: %q", code, out)
	}
}

func TestReadOnlyRootAndMaskedPaths(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo x >/f && echo writable; cat /proc/kcore | wc -c; echo 1 >/proc/sys/kernel/sysrq && echo writable; cat /vol/f")
	volume := b.TempDir()
	b.must(os.WriteFile(filepath.Join(volume, "f"), []byte("from the host\n"), 0o644))
	b.spec.Root.Readonly = true
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/vol", Type: "bind", Source: volume, Options: []string{"rbind", "rro"}})
	out, _ := b.runAll()
	if strings.Contains(out, "writable") || !strings.Contains(out, "from the host") {
		t.Fatalf("got %q", out)
	}
}

func TestContainerInAUserNamespace(t *testing.T) {
	b := newBox(t, "sh", "-c", "id -u; cat /proc/self/uid_map")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	b.spec.Linux.GIDMappings = b.spec.Linux.UIDMappings
	b.must(filepath.Walk(b.rootfs, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 100000, 100000)
	}))
	// the way to the rootfs must be open to the mapped root
	for dir := b.rootfs; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&1 == 0 {
			b.must(os.Chmod(dir, info.Mode().Perm()|0o111))
		}
	}
	b.must(os.MkdirAll(b.root, 0o711))
	out, code := b.runAll()
	if code != 0 || !strings.HasPrefix(out, "0\n") || !strings.Contains(out, "100000") {
		t.Fatalf("exit code %d: %q", code, out)
	}
}
