package refuser

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func deviceNumber(n int64) *int64 { return &n }

func TestDeviceIsRefusedWhenNoRuleAllowsIt(t *testing.T) {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "c", Major: deviceNumber(1), Minor: deviceNumber(3), Access: "rwm"},
		{Allow: true, Type: "c", Major: deviceNumber(136), Access: "rwm"},
	}
	for name, test := range map[string]struct {
		node    node
		rules   []specs.LinuxDeviceCgroup
		refused bool
	}{
		"allowed by its number":    {node{mode: unix.S_IFCHR, major: 1, minor: 3}, rules, false},
		"allowed by its major":     {node{mode: unix.S_IFCHR, major: 136, minor: 9}, rules, false},
		"to be made, not opened":   {node{mode: unix.S_IFCHR, major: 1, minor: 11}, rules, true},
		"a block device":           {node{mode: unix.S_IFBLK, major: 1, minor: 3}, rules, true},
		"a file":                   {node{mode: unix.S_IFREG, major: 1, minor: 11}, rules, false},
		"of a privileged one":      {node{mode: unix.S_IFBLK, major: 8}, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, false},
		"where there are no rules": {node{mode: unix.S_IFBLK, major: 8}, nil, false},
	} {
		s := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Devices: test.rules}}}
		if got := deviceRefused(s, test.node); (got != "") != test.refused {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWhatLeavesAppArmor(t *testing.T) {
	for name, test := range map[string]struct {
		node    node
		syscall string
		leaves  bool
	}{
		"a file that may be read":            {node{mode: unix.S_IFREG | 0o644}, "openat", true},
		"a program":                          {node{mode: unix.S_IFREG | 0o755}, "execve", true},
		"a program without its bit":          {node{mode: unix.S_IFREG | 0o644}, "execve", false},
		"a program on a noexec mount":        {node{mode: unix.S_IFREG | 0o755, flags: unix.ST_NOEXEC}, "execve", false},
		"a directory to be executed":         {node{mode: unix.S_IFDIR | 0o755}, "execve", false},
		"a device on a nodev mount":          {node{mode: unix.S_IFCHR | 0o666, flags: unix.ST_NODEV}, "openat", false},
		"a device":                           {node{mode: unix.S_IFCHR | 0o666}, "openat", true},
		"a file of procfs, which has rules":  {node{mode: unix.S_IFREG | 0o644, magic: unix.PROC_SUPER_MAGIC}, "openat", false},
		"a file of a server":                 {node{mode: unix.S_IFREG | 0o644, magic: unix.NFS_SUPER_MAGIC}, "openat", false},
		"a file in a directory for everyone": {node{mode: unix.S_IFREG | 0o644, sticky: true}, "openat", false},
		"another call":                       {node{mode: unix.S_IFREG | 0o644}, "connect", false},
	} {
		if got := test.node.leavesAppArmor(test.syscall); got != test.leaves {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNodeIsFoundThroughMountsOfAContainerThatIsGone(t *testing.T) {
	c := pod.Container{ID: pod.NewID(), State: pod.Exited}
	dir := t.TempDir()
	c.Init, c.Rootfs = pod.Process{}, filepath.Join(dir, "rootfs")
	volume := filepath.Join(dir, "volume")
	for _, d := range []string{filepath.Join(c.Rootfs, "data"), volume} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(volume, "kmsg"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 11))); errors.Is(err, unix.EPERM) {
		t.Skip("making a device node needs CAP_MKNOD in the first user namespace")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(c.Rootfs, "out")); err != nil {
		t.Fatal(err)
	}
	c.Config = pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Mounts: []*runtime.Mount{{HostPath: volume, ContainerPath: "/data"}}}}
	for path, want := range map[string]string{"/data/kmsg": "1:11", "/data/other": "", "/out": "", "kmsg": ""} {
		n, found := nodeAt(c, path)
		if found != (want != "") || found && (n.major != 1 || n.minor != 11 || n.mode&unix.S_IFMT != unix.S_IFCHR) {
			t.Errorf("%s: %+v, %v", path, n, found)
		}
	}
	nobody := func(pod.ID) (*specs.Spec, error) { return nil, pod.ErrNotFound }
	for _, d := range []pod.Denial{
		{Layer: "permission", Syscall: "openat", Error: "EPERM", Path: "/data/kmsg"}, // without a specification
		{Layer: "permission", Syscall: "openat", Error: "EPERM", Path: "data"},
		{Layer: "seccomp", Syscall: "openat", Error: "EPERM", Path: "/data/kmsg"},
	} {
		was := d.Layer
		if TellApart(c, nobody, &d); d.Layer != was {
			t.Errorf("%+v", d)
		}
	}
	made := func(pod.ID) (*specs.Spec, error) {
		return &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}}}, nil
	}
	d := pod.Denial{Layer: "permission", Syscall: "openat", Error: "EPERM", Path: "/data/kmsg", What: "openat failed"}
	if TellApart(c, made, &d); d.Layer != "device" || !strings.Contains(d.What, "c 1:11") || d.Remedy == "" {
		t.Errorf("%+v", d)
	}
	if got := Device(c, made, "/data/kmsg"); !strings.Contains(got, "c 1:11") {
		t.Errorf("%q", got)
	}
}
