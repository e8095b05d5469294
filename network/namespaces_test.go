package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// inside runs fn in the pinned namespaces.
func inside(t *testing.T, paths pod.Namespaces, fn func() error) {
	t.Helper()
	if err := onThread(func() error {
		for path, kind := range map[string]int{paths.Net: unix.CLONE_NEWNET, paths.IPC: unix.CLONE_NEWIPC, paths.UTS: unix.CLONE_NEWUTS} {
			if path == "" {
				continue
			}
			if err := enter(path, kind); err != nil {
				return err
			}
		}
		return fn()
	}); err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestNamespacesArePinnedWithHostnameLoopbackAndSysctls(t *testing.T) {
	n, _ := open(t, func(c *Config) {
		c.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "20000 30000", "kernel.shmmni": "100"}
	})
	paths, err := n.CreateNamespaces(t.Context(), NamespaceRequest{ID: "a1", Net: true, IPC: true, UTS: true, Hostname: "web-0",
		Sysctls: map[string]string{"net.core.somaxconn": "77", "kernel.sem": "10 20 30 40", "fs.mqueue.msg_max": "17", "kernel.shmmni": "200"}})
	if err != nil {
		t.Fatal(err)
	}
	inside(t, paths, func() error {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			return err
		}
		if got := unix.ByteSliceToString(uts.Nodename[:]); got != "web-0" {
			t.Errorf("hostname is %q", got)
		}
		for path, want := range map[string]string{
			"/proc/sys/net/core/somaxconn": "77", "/proc/sys/kernel/sem": "10\t20\t30\t40", "/proc/sys/fs/mqueue/msg_max": "17",
			"/proc/sys/kernel/shmmni": "200", "/proc/sys/net/ipv4/ip_local_port_range": "20000\t30000",
		} {
			raw, err := os.ReadFile(path)
			if got := strings.TrimSpace(string(raw)); err != nil || got != want {
				t.Errorf("%s is %q, %v; want %q", path, got, err, want)
			}
		}
		return nil
	})
	serve(t, paths.Net, "127.0.0.1:7001", "v4 loopback")
	mustAsk(t, paths.Net, "127.0.0.1:7001", "v4 loopback")
	serve(t, paths.Net, "[::1]:7002", "v6 loopback")
	mustAsk(t, paths.Net, "[::1]:7002", "v6 loopback")
	for kind, path := range map[string]string{"net": paths.Net, "ipc": paths.IPC, "uts": paths.UTS} {
		if inode(t, path) == inode(t, "/proc/self/ns/"+kind) {
			t.Errorf("the pod's %s namespace is the host's", kind)
		}
	}
}

func TestOnlyTheNamespacesAskedForAreMade(t *testing.T) {
	n, _ := open(t, nil)
	paths, err := n.CreateNamespaces(t.Context(), NamespaceRequest{ID: "hostnet", IPC: true})
	if err != nil || paths != (pod.Namespaces{IPC: filepath.Join(n.config.Dir, "hostnet", "ipc")}) {
		t.Errorf("got %+v, %v", paths, err)
	}
	paths, err = n.CreateNamespaces(t.Context(), NamespaceRequest{ID: "nothing", Hostname: "unused"})
	if err != nil || paths != (pod.Namespaces{}) {
		t.Errorf("got %+v, %v", paths, err)
	}
	if pinned, err := n.Pinned(); err != nil || fmt.Sprint(pinned) != "[hostnet]" {
		t.Errorf("pinned: %v, %v", pinned, err)
	}
}

func TestUserNamespaceOwnsTheOthers(t *testing.T) {
	n, _ := open(t, nil)
	maps := []IDMap{{Container: 0, Host: 200000, Size: 65536}}
	paths, err := n.CreateNamespaces(t.Context(), NamespaceRequest{ID: "u1", Net: true, IPC: true, UTS: true, Hostname: "mapped",
		Sysctls: map[string]string{"net.core.somaxconn": "55", "kernel.shmmax": "4096"}, UserNS: &UserNS{UIDs: maps, GIDs: maps}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{paths.Net, paths.IPC, paths.UTS} {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		owner, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(owner)
		if got, want := inode(t, fmt.Sprintf("/proc/self/fd/%d", owner)), inode(t, paths.User); got != want {
			t.Errorf("%s is owned by user namespace %d, want %d", path, got, want)
		}
	}
	inside(t, paths, func() error {
		var uts unix.Utsname
		unix.Uname(&uts)
		somaxconn, _ := os.ReadFile("/proc/sys/net/core/somaxconn")
		shmmax, _ := os.ReadFile("/proc/sys/kernel/shmmax")
		if got := unix.ByteSliceToString(uts.Nodename[:]) + " " + string(somaxconn) + string(shmmax); got != "mapped 55\n4096\n" {
			t.Errorf("inside: %q", got)
		}
		return nil
	})
	serve(t, paths.Net, "127.0.0.1:7001", "mapped")
	mustAsk(t, paths.Net, "127.0.0.1:7001", "mapped")
	children, err := os.ReadFile("/proc/thread-self/children")
	if err == nil && len(children) > 0 {
		t.Errorf("children are left: %s", children)
	}
}

func TestUserNamespaceWithImpossibleMappingLeavesNothing(t *testing.T) {
	n, _ := open(t, nil)
	maps := []IDMap{{0, 200000, 10}, {5, 300000, 10}} // they overlap
	if _, err := n.CreateNamespaces(t.Context(), NamespaceRequest{ID: "u2", Net: true, UserNS: &UserNS{UIDs: maps, GIDs: maps}}); err == nil {
		t.Error("an overlapping mapping was accepted")
	}
	if pinned, err := n.Pinned(); err != nil || len(pinned) != 0 {
		t.Errorf("pinned: %v, %v", pinned, err)
	}
}

func TestRemovalIsIdempotentAlsoOfHalfMadePins(t *testing.T) {
	n, _ := open(t, nil)
	before := census(t, n)
	paths, err := n.CreateNamespaces(t.Context(), NamespaceRequest{ID: "r1", Net: true, IPC: true, UTS: true})
	if err != nil {
		t.Fatal(err)
	}
	// What a crash leaves: one pin unmounted, one file gone, one directory without any.
	if err := errors.Join(unix.Unmount(paths.IPC, 0), unix.Unmount(paths.UTS, 0), os.Remove(paths.UTS),
		os.Mkdir(filepath.Join(n.config.Dir, "r2"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if pinned, err := n.Pinned(); err != nil || fmt.Sprint(pinned) != "[r1 r2]" {
		t.Errorf("pinned: %v, %v", pinned, err)
	}
	for range 2 {
		for _, id := range []string{"r1", "r2", "never-made"} {
			if err := n.RemoveNamespaces(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	}
	sameAs(t, n, before)
}

func TestSecondCreationIsRefused(t *testing.T) {
	n, _ := open(t, nil)
	req := NamespaceRequest{ID: "twice", UTS: true}
	if _, err := n.CreateNamespaces(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := n.CreateNamespaces(t.Context(), req); !errors.Is(err, pod.ErrExists) {
		t.Errorf("got %v", err)
	}
}

func TestBadSysctlsAreRefusedByNameAndChangeNothing(t *testing.T) {
	n, _ := open(t, nil)
	watched := []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/swappiness"}
	before := readAll(watched)
	for _, c := range []struct {
		name, value string
		hostNet     bool
	}{
		{"kernel.shm_rmid_forced", "1+kernel.core_pattern=|/bin/evil", false},
		{"net.core.somaxconn", "1=2", false},
		{"net.core.somaxconn", "1\n2", false},
		{"net.core.somaxconn", "1\x00", false},
		{"net.core.somaxconn", strings.Repeat("1", maxSysctlValue+1), false},
		{"net/core/somaxconn", "1", false},
		{"net.core/somaxconn", "1", false},
		{"net...kernel.core_pattern", "x", false},
		{"net.", "1", false},
		{"net", "1", false},
		{".net.core.somaxconn", "1", false},
		{"Net.core.somaxconn", "1", false},
		{"kernel.core_pattern", "x", false},
		{"kernel.msg", "1", false}, // namespaced by its prefix, unknown to the kernel
		{"vm.swappiness", "1", false},
		{"fs.file-max", "1", false},
		{"kernel.hostname", "x", false},
		{"net.core.no_such_setting", "1", false},
		{"net.core.somaxconn", "many", false},
		{"net.core.somaxconn", "1", true},
		{"kernel.shmmax", "1", true},
	} {
		req := NamespaceRequest{ID: "s1", Net: !c.hostNet, IPC: !c.hostNet, UTS: true, Sysctls: map[string]string{c.name: c.value}}
		_, err := n.CreateNamespaces(t.Context(), req)
		if !errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), strings.TrimSuffix(c.name, "\x00")) {
			t.Errorf("sysctl %q = %.20q: got %v", c.name, c.value, err)
		}
	}
	if after := readAll(watched); after != before {
		t.Errorf("the host's settings changed from\n%s to\n%s", before, after)
	}
	if pinned, err := n.Pinned(); err != nil || len(pinned) != 0 {
		t.Errorf("pinned: %v, %v", pinned, err)
	}
}

func readAll(paths []string) string {
	var out strings.Builder
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		fmt.Fprintln(&out, path, string(raw), err)
	}
	return out.String()
}

// A sysctl that passes the check names a file below /proc/sys in a namespaced
// directory, and its value is one line.
func FuzzCheckSysctl(f *testing.F) {
	for _, name := range []string{"net.ipv4.ip_forward", "kernel.shm_rmid_forced", "net..ipv4", "net/../kernel.core_pattern", "kernel.domainname"} {
		f.Add(name, "1+kernel.core_pattern=|/x")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if checkSysctl(name, value) != nil {
			return
		}
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		ok := filepath.Clean(path) == path && !strings.ContainsAny(value, "+=\n\x00")
		for _, prefix := range []string{"net/", "kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/", "kernel/domainname"} {
			if ok && strings.HasPrefix(path, "/proc/sys/"+prefix) {
				return
			}
		}
		t.Errorf("accepted %q = %q", name, value)
	})
}

func TestMainThreadKeepsItsNamespaces(t *testing.T) {
	before := inode(t, "/proc/self/ns/net")
	for range 50 {
		if err := onThread(func() error {
			if unix.Gettid() == unix.Getpid() {
				t.Error("the main thread was used")
			}
			return unix.Unshare(unix.CLONE_NEWNET)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if after := inode(t, "/proc/self/ns/net"); after != before {
		t.Error("the process changed its network namespace")
	}
}

func TestHostnameAndIDAreChecked(t *testing.T) {
	n, _ := open(t, nil)
	for _, req := range []NamespaceRequest{
		{ID: "h", UTS: true, Hostname: strings.Repeat("h", 65)},
		{ID: "../h", UTS: true}, {ID: "", UTS: true}, {ID: "..", UTS: true}, {ID: "a/b", UTS: true},
		{ID: "h", UTS: true, UserNS: &UserNS{}},
	} {
		if _, err := n.CreateNamespaces(t.Context(), req); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%+v: got %v", req, err)
		}
	}
	if err := n.RemoveNamespaces(t.Context(), "../x"); !errors.Is(err, pod.ErrInvalid) {
		t.Errorf("remove: got %v", err)
	}
}

func TestNamespacesAreConfiguredOnceMore(t *testing.T) {
	n, _ := open(t, func(c *Config) {})
	request := NamespaceRequest{ID: "a1", Net: true, IPC: true, UTS: true, Hostname: "web-0", Sysctls: map[string]string{"net.core.somaxconn": "77"}}
	paths, err := n.CreateNamespaces(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	inside(t, paths, func() error {
		return errors.Join(unix.Sethostname([]byte("other")), os.WriteFile("/proc/sys/net/core/somaxconn", []byte("88"), 0))
	})
	if err := n.ConfigureNamespaces(request); err != nil {
		t.Fatal(err)
	}
	inside(t, paths, func() error {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			return err
		}
		value, err := os.ReadFile("/proc/sys/net/core/somaxconn")
		if got := unix.ByteSliceToString(uts.Nodename[:]); got != "web-0" || string(value) != "77\n" {
			t.Errorf("hostname %q, sysctl %q", got, value)
		}
		return err
	})
	if err := n.ConfigureNamespaces(NamespaceRequest{ID: "none", UTS: true}); err == nil {
		t.Error("namespaces that do not exist were configured")
	}
	if err := n.ConfigureNamespaces(NamespaceRequest{ID: "none"}); err != nil {
		t.Errorf("the host's: %v", err)
	}
}
