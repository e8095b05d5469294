package libct

import (
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch/enter"
)

// usual is a configuration that vitrine-enter does.
func usual() *configs.Config {
	return &configs.Config{
		Rootfs: "/fs", Cgroups: &cgroups.Cgroup{Resources: &cgroups.Resources{}},
		Namespaces: configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWPID}, {Type: configs.NEWNET, Path: "/run/net"}},
		Mounts: []*configs.Mount{
			{Device: "proc", Source: "proc", Destination: "/proc", Flags: unix.MS_NOSUID},
			{Device: "bind", Source: "/v", Destination: "/v", Flags: unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY, PropagationFlags: []int{unix.MS_PRIVATE | unix.MS_REC}},
			{Device: "tmpfs", Source: "tmpfs", Destination: "/t", Flags: unix.MS_RDONLY | unix.MS_STRICTATIME, Data: "size=1m"},
			{Device: "sysfs", Source: "sysfs", Destination: "/sys", Flags: unix.MS_RDONLY | unix.MS_RELATIME},
		},
	}
}

func TestOrdinaryMountsBecomeWhatMountWouldMake(t *testing.T) {
	b, err := ordinary(usual(), nil, enter.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []enter.Op{
		{Kind: enter.OpMount, Path: "/proc", Source: "proc", Type: "proc", Flags: enter.OpPlain, Set: unix.MOUNT_ATTR_NOSUID},
		{Kind: enter.OpBind, Path: "/v", Source: "/v", Flags: enter.OpRecursive | enter.OpAttributes, Set: unix.MOUNT_ATTR_RDONLY,
			Clear:       unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW,
			Propagation: unix.MS_PRIVATE | unix.MS_REC},
		{Kind: enter.OpMount, Path: "/t", Source: "tmpfs", Type: "tmpfs", Data: "size=1m", Flags: enter.OpMode | enter.OpLateReadOnly, Set: unix.MOUNT_ATTR_STRICTATIME},
		{Kind: enter.OpMount, Path: "/sys", Source: "sysfs", Type: "sysfs", Flags: enter.OpPlain | enter.OpReadOnlySuper, Set: unix.MOUNT_ATTR_RDONLY},
	} {
		if b.Ops[i] != want {
			t.Errorf("%d: %+v, want %+v", i, b.Ops[i], want)
		}
	}
	if b.Fresh != unix.CLONE_NEWNS|unix.CLONE_NEWPID || b.OwnCgroups || b.Loopback ||
		b.Propagation != unix.MS_SLAVE|unix.MS_REC || b.MountPropagation != unix.MS_PRIVATE {
		t.Errorf("%+v", b)
	}
}

func TestOnlyOrdinaryConfigurationsArePlanned(t *testing.T) {
	score := uint32(0)
	for name, change := range map[string]func(*configs.Config){
		"a user namespace":        func(c *configs.Config) { c.Namespaces.Add(configs.NEWUSER, "/run/user") },
		"a time namespace":        func(c *configs.Config) { c.Namespaces.Add(configs.NEWTIME, "") },
		"a mount namespace":       func(c *configs.Config) { c.Namespaces[0].Path = "/run/mnt" },
		"a joined cgroup":         func(c *configs.Config) { c.Namespaces.Add(configs.NEWCGROUP, "/run/cgroup") },
		"without pivot_root":      func(c *configs.Config) { c.NoPivotRoot = true },
		"a parent's death":        func(c *configs.Config) { c.ParentDeathSignal = 9 },
		"a label":                 func(c *configs.Config) { c.MountLabel = "x" },
		"a profile of all":        func(c *configs.Config) { c.AppArmorProfile = "x" },
		"SELinux":                 func(c *configs.Config) { c.ProcessLabel = "x" },
		"a umask":                 func(c *configs.Config) { c.Umask = &score },
		"Intel RDT":               func(c *configs.Config) { c.IntelRdt = &configs.IntelRdt{} },
		"a network device":        func(c *configs.Config) { c.NetDevices = map[string]*configs.LinuxNetDevice{"eth0": {}} },
		"a route":                 func(c *configs.Config) { c.Routes = []*configs.Route{{}} },
		"a veth":                  func(c *configs.Config) { c.Networks = []*configs.Network{{Type: "veth"}} },
		"loopback of others":      func(c *configs.Config) { c.Networks = []*configs.Network{{Type: "loopback"}} },
		"hooks":                   func(c *configs.Config) { c.Hooks = configs.Hooks{configs.Poststop: {configs.NewFunctionHook(nil)}} },
		"a shared root":           func(c *configs.Config) { c.RootPropagation = unix.MS_SHARED | unix.MS_REC },
		"a listener":              func(c *configs.Config) { c.Seccomp = &configs.Seccomp{ListenerPath: "/run/x"} },
		"a personality":           func(c *configs.Config) { c.Personality = &configs.LinuxPersonality{} },
		"a scheduler":             func(c *configs.Config) { c.Scheduler = &configs.Scheduler{} },
		"other times":             func(c *configs.Config) { c.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {}} },
		"rootless":                func(c *configs.Config) { c.RootlessEUID = true },
		"mapped contents":         func(c *configs.Config) { c.Mounts[1].IDMapping = &configs.MountIDMapping{} },
		"copied contents":         func(c *configs.Config) { c.Mounts[2].Extensions = configs.EXT_COPYUP },
		"shared volume":           func(c *configs.Config) { c.Mounts[1].PropagationFlags = []int{unix.MS_SHARED | unix.MS_REC} },
		"two propagations":        func(c *configs.Config) { c.Mounts[1].PropagationFlags = []int{unix.MS_PRIVATE, unix.MS_SLAVE} },
		"volume in proc":          func(c *configs.Config) { c.Mounts[1].Destination = "/proc/sys" },
		"the host's dev":          func(c *configs.Config) { c.Mounts[1].Destination = "/dev" },
		"volume's access times":   func(c *configs.Config) { c.Mounts[1].Flags |= unix.MS_NOATIME },
		"cleared access times":    func(c *configs.Config) { c.Mounts[1].ClearedFlags = unix.MS_RELATIME },
		"two access times":        func(c *configs.Config) { c.Mounts[2].Flags |= unix.MS_NOATIME },
		"an odd flag":             func(c *configs.Config) { c.Mounts[2].Flags |= unix.MS_SYNCHRONOUS },
		"a policy for memory":     func(c *configs.Config) { c.Mounts[2].Data = "mpol=bind:0,1" },
		"another file system":     func(c *configs.Config) { c.Mounts[2].Device = "ext4" },
		"a procfs elsewhere":      func(c *configs.Config) { c.Mounts[0].Destination = "/p" },
		"recursion of tmpfs":      func(c *configs.Config) { c.Mounts[2].RecAttr = &unix.MountAttr{Attr_set: 1} },
		"users of a volume's all": func(c *configs.Config) { c.Mounts[1].RecAttr = &unix.MountAttr{Userns_fd: 3} },
		"an unknown device": func(c *configs.Config) {
			c.Devices = []*devices.Device{{Path: "/dev/x", Rule: devices.Rule{Type: 'x'}}}
		},
		"a device with setuid": func(c *configs.Config) {
			c.Devices = []*devices.Device{{Path: "/dev/x", FileMode: os.ModeSetuid, Rule: devices.Rule{Type: 'c'}}}
		},
	} {
		c := usual()
		change(c)
		if _, err := ordinary(c, nil, enter.Facts{}); !errors.Is(err, enter.ErrNeedsLibcontainer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
