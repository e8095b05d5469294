package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// A field of a container's request is honoured when the container's own program sees it.
func TestContainerSeesWhatItsFieldsAskFor(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("fields")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	host, unmount := tempMounts(t, n)
	device := filepath.Join(n.Dir, "device") // of the memory driver, whose minor 99 does not exist
	n.must(unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 99))))
	profile := filepath.Join(n.Dir, "no-mkdir.json")
	n.must(os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644))
	security := func(change func(*runtime.LinuxContainerSecurityContext)) func(*runtime.ContainerConfig) {
		return func(c *runtime.ContainerConfig) { change(c.Linux.SecurityContext) }
	}
	mount := func(m *runtime.Mount) func(*runtime.ContainerConfig) {
		return func(c *runtime.ContainerConfig) { c.Mounts = []*runtime.Mount{m} }
	}
	for name, tc := range map[string]struct {
		change func(*runtime.ContainerConfig)
		script string
		want   string
	}{
		"args":        {func(c *runtime.ContainerConfig) { c.Command, c.Args = []string{"/bin/echo"}, []string{"a  b", "c"} }, "", "a  b c\n"},
		"working-dir": {func(c *runtime.ContainerConfig) { c.WorkingDir = "/home/app" }, "pwd", "/home/app\n"},
		"envs": {func(c *runtime.ContainerConfig) {
			c.Envs = []*runtime.KeyValue{{Key: "A", Value: []byte("x=y")}, {Key: "B", Value: []byte("ü\n\t\"\\")}}
		}, `echo "$A $B"`, "x=y ü\n\t\"\\\n"},
		"tty": {func(c *runtime.ContainerConfig) { c.Tty = true }, `test -t 1 && echo "terminal $TERM"`, "terminal xterm\r\n"},
		"readonly": {mount(&runtime.Mount{ContainerPath: "/m", HostPath: host, Readonly: true}),
			"touch /m/x || echo refused; touch /m/below/x && rm /m/below/x && echo made", "refused\nmade\n"},
		"recursive-read-only": {mount(&runtime.Mount{ContainerPath: "/m", HostPath: host, Readonly: true, RecursiveReadOnly: true}),
			"touch /m/below/x || echo refused", "refused\n"},
		"mount-options": {mount(&runtime.Mount{ContainerPath: "/m", HostPath: host, MountOptions: []string{"noexec", "nosuid"}}),
			"cp /bin/busybox /m/busybox; /m/busybox true || echo refused; rm /m/busybox", "refused\n"},
		"device": {func(c *runtime.ContainerConfig) {
			c.Devices = []*runtime.Device{{HostPath: device, ContainerPath: "/dev/own", Permissions: "r"}}
		}, "stat -c %t:%T /dev/own; (: < /dev/own) 2>&1 | grep -c 'not permitted'; (: > /dev/own) 2>&1 | grep -c 'not permitted'", "1:63\n0\n1\n"},
		"capabilities": {security(func(s *runtime.LinuxContainerSecurityContext) {
			s.Capabilities = &runtime.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"KILL"}}
		}), "grep -E 'Cap(Eff|Bnd)' /proc/self/status", "CapEff:\t0000000000000020\nCapBnd:\t0000000000000020\n"},
		"ambient-capabilities": {security(func(s *runtime.LinuxContainerSecurityContext) {
			s.RunAsUser = &runtime.Int64Value{Value: 1000}
			s.Capabilities = &runtime.Capability{AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}}
		}), "id -u; grep -E 'Cap(Eff|Amb)' /proc/self/status", "1000\nCapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n"},
		"readonly-rootfs": {security(func(s *runtime.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true }), "touch /x || echo refused", "refused\n"},
		"no-new-privs":    {security(func(s *runtime.LinuxContainerSecurityContext) { s.NoNewPrivs = true }), "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		"masked-paths":    {security(func(s *runtime.LinuxContainerSecurityContext) { s.MaskedPaths = []string{"/proc/version", "/home"} }), "cat /proc/version; ls /home; echo end", "end\n"},
		"readonly-paths":  {security(func(s *runtime.LinuxContainerSecurityContext) { s.ReadonlyPaths = []string{"/tmp"} }), "touch /tmp/x || echo refused", "refused\n"},
		"seccomp-default": {nil, "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		"seccomp-none": {security(func(s *runtime.LinuxContainerSecurityContext) {
			s.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Unconfined}
		}), "grep Seccomp: /proc/self/status", "Seccomp:\t0\n"},
		"seccomp-of-old": {security(func(s *runtime.LinuxContainerSecurityContext) {
			s.Seccomp, s.SeccompProfilePath = nil, "runtime/default"
		}), "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		"seccomp-own-file": {security(func(s *runtime.LinuxContainerSecurityContext) {
			s.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: profile}
		}), "mkdir /tmp/x || echo refused", "refused\n"},
		"oom-score-adj": {func(c *runtime.ContainerConfig) { c.Linux.Resources.OomScoreAdj = 321 }, "cat /proc/self/oom_score_adj", "321\n"},
		"cpu": {func(c *runtime.ContainerConfig) {
			c.Linux.Resources.CpuPeriod, c.Linux.Resources.CpuQuota = 50000, 20000
		},
			"cd /sys/fs/cgroup; if test -e cpu.max; then cat cpu.max; else echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); fi", "20000 50000\n"},
		"cpuset": {func(c *runtime.ContainerConfig) {
			c.Linux.Resources.CpusetCpus, c.Linux.Resources.CpusetMems = "0", "0"
		},
			"grep -E '(Cpus|Mems)_allowed_list' /proc/self/status", "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n"},
		"memory-and-swap": {func(c *runtime.ContainerConfig) {
			c.Linux.Resources.MemoryLimitInBytes, c.Linux.Resources.MemorySwapLimitInBytes = 64<<20, 96<<20
		}, "cd /sys/fs/cgroup; if test -e memory.max; then s=$(cat memory.swap.max); echo $(cat memory.max) $((67108864 + s)); else echo $(cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes); fi", "67108864 100663296\n"},
		"hugepages": {func(c *runtime.ContainerConfig) {
			c.Linux.Resources.HugepageLimits = []*runtime.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}
		}, "cd /sys/fs/cgroup; cat hugetlb.2MB.max hugetlb/hugetlb.2MB.limit_in_bytes 2>/dev/null; echo end", map[bool]string{true: "4194304\nend\n", false: "end\n"}[limitsHugePages()]},
	} {
		t.Run(name, func(t *testing.T) {
			m := *n
			m.TB = t
			c := harness.Container(pod, name, n.image, "/bin/sh", "-c", tc.script)
			if tc.change != nil {
				tc.change(c)
			}
			id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
			harness.Must(n.cri.WaitExit(n.ctx, id))(t)
			m.stdout(pod, c, tc.want)
			m.must(n.cri.Remove(n.ctx, id))
		})
	}
	t.Run("unified", func(t *testing.T) { unifiedIsSetOrRefused(t, n, sandbox, pod) })
	t.Run("propagation", func(t *testing.T) { hostMountReachesTheContainer(t, n, sandbox, pod, host) })
	t.Run("apparmor", func(t *testing.T) {
		for i, change := range []func(*runtime.LinuxContainerSecurityContext){
			func(s *runtime.LinuxContainerSecurityContext) {
				s.Apparmor = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "no-such-profile"}
			},
			func(s *runtime.LinuxContainerSecurityContext) { s.ApparmorProfile = "localhost/no-such-profile" },
		} {
			c := harness.Container(pod, fmt.Sprint("apparmor", i), n.image, "true")
			change(c.Linux.SecurityContext)
			if _, err := n.cri.Run(n.ctx, sandbox, pod, c); err == nil || !strings.Contains(strings.ToLower(err.Error()), "apparmor") {
				t.Errorf("a profile that is not loaded: %v", err)
			}
		}
	})
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	unmount()
	n.nothingLeft()
}

// limitsHugePages: the host has the hugetlb controller.
func limitsHugePages() bool {
	raw, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	_, err := os.Stat("/sys/fs/cgroup/hugetlb")
	return err == nil || strings.Contains(string(raw), "hugetlb")
}

// tempMounts makes a shared mount with another one below it, for as long as the test runs.
// unmount may be called before.
func tempMounts(t *testing.T, n *node) (path string, unmount func()) {
	t.Helper()
	dir := filepath.Join(n.Dir, "mounts")
	n.must(os.Mkdir(dir, 0o755))
	n.must(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"))
	unmount = func() { unix.Unmount(dir, unix.MNT_DETACH) }
	t.Cleanup(unmount)
	n.must(unix.Mount("", dir, "", unix.MS_SHARED, ""))
	n.must(os.Mkdir(filepath.Join(dir, "below"), 0o777))
	n.must(unix.Mount("tmpfs", filepath.Join(dir, "below"), "tmpfs", 0, "size=1m"))
	return dir, unmount
}

func hostMountReachesTheContainer(t *testing.T, n *node, sandbox string, pod *runtime.PodSandboxConfig, host string) {
	c := harness.Container(pod, "receiver", n.image, "sleep", "1000")
	c.Mounts = []*runtime.Mount{{ContainerPath: "/m", HostPath: host, Propagation: runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	late := filepath.Join(host, "late")
	n.must(os.Mkdir(late, 0o755))
	n.must(unix.Mount("tmpfs", late, "tmpfs", 0, "size=1m"))
	defer unix.Unmount(late, unix.MNT_DETACH)
	n.must(os.WriteFile(filepath.Join(late, "file"), []byte("mounted later"), 0o644))
	out := harness.Must(n.cri.Exec(n.ctx, id, 60, "cat", "/m/late/file"))(t)
	if string(out.Stdout) != "mounted later" {
		t.Errorf("a mount that the host made later: %q, %s", out.Stdout, out.Stderr)
	}
	n.must(n.cri.Stop(n.ctx, id, 0))
}

func unifiedIsSetOrRefused(t *testing.T, n *node, sandbox string, pod *runtime.PodSandboxConfig) {
	c := harness.Container(pod, "unified", n.image, "cat", "/sys/fs/cgroup/memory.high")
	c.Linux.Resources.Unified = map[string]string{"memory.high": "104857600"}
	id, err := n.cri.Run(n.ctx, sandbox, pod, c)
	if _, statErr := os.Stat("/sys/fs/cgroup/cgroup.controllers"); statErr != nil {
		if err == nil || !strings.Contains(err.Error(), "cgroup v1") {
			t.Errorf("files of cgroup v2 on a host without it: %v", err)
		}
		return
	}
	n.must(err)
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	waitLog(t, pod, c, "104857600")
}

func TestPrivilegedContainerHasTheHostsDevicesAndNoConfinement(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("privileged")
	pod.Linux.SecurityContext.Privileged = true
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "grep Seccomp: /proc/self/status; touch /sys/fs/cgroup && echo writable; test -e /dev/loop-control -o -e /dev/mem -o -e /dev/kmsg && echo devices")
	c.Linux.SecurityContext.Privileged = true
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	waitLog(t, pod, c, "Seccomp:\t0")
	waitLog(t, pod, c, "devices")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestMappedPodOnTheHostsNetworkAndItsIDMappedMount(t *testing.T) {
	n := start(t, harness.Options{})
	ids := []*runtime.IDMapping{{HostId: 300000, ContainerId: 0, Length: 65536}}
	pod := n.HostPod("mapped-host")
	pod.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtime.UserNamespace{Mode: runtime.NamespaceMode_POD, Uids: ids, Gids: ids}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	data := filepath.Join(n.Dir, "owned")
	n.must(os.Mkdir(data, 0o755))
	n.must(os.Chown(data, 0, 0))
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "cat /proc/self/uid_map; readlink /proc/self/ns/net || ls -l /proc/self/ns/net; stat -c 'owner %u' /data; touch /data/x && echo made; echo end")
	c.Mounts = []*runtime.Mount{{ContainerPath: "/data", HostPath: data, UidMappings: ids, GidMappings: ids}}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	waitLog(t, pod, c, "end")
	log := string(harness.Must(harness.ReadLog(harness.LogPath(pod, c)))(t).Stdout)
	net := harness.Must(os.Readlink("/proc/self/ns/net"))(t)
	for _, want := range []string{"300000", net, "owner 0", "made"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	var st unix.Stat_t
	n.must(unix.Stat(filepath.Join(data, "x"), &st))
	if st.Uid != 0 {
		t.Errorf("the file made through the id-mapped mount belongs to %d on the host, want 0", st.Uid)
	}
	features := harness.Must(n.cri.RuntimeServiceClient.Status(n.ctx, &runtime.StatusRequest{}))(t).GetFeatures()
	if !features.GetUserNamespacesHostNetwork() || !features.GetMountOptions() || !features.GetSupplementalGroupsPolicy() {
		t.Errorf("what was just done is not among the features: %v", features)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
