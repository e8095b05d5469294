package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

// input is an ordinary container of an ordinary pod on a capable host.
func input() Input {
	return Input{
		Container: &runtime.ContainerConfig{
			Metadata: &runtime.ContainerMetadata{Name: "web"},
			Image:    &runtime.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "example.org/web:1"},
			Envs:     []*runtime.KeyValue{{Key: "COLOR", Value: []byte("red")}, {Key: "PATH", Value: []byte("/bin")}},
			Linux: &runtime.LinuxContainerConfig{
				Resources: &runtime.LinuxContainerResources{
					CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 900,
					HugepageLimits: []*runtime.HugepageLimit{{PageSize: "2MB"}},
				},
				SecurityContext: &runtime.LinuxContainerSecurityContext{
					NamespaceOptions: &runtime.NamespaceOption{Pid: runtime.NamespaceMode_CONTAINER},
					MaskedPaths:      DefaultMaskedPaths, ReadonlyPaths: DefaultReadonlyPaths,
					NoNewPrivs: true, Seccomp: &runtime.SecurityProfile{},
				},
			},
		},
		Sandbox: &runtime.PodSandboxConfig{
			Metadata: &runtime.PodSandboxMetadata{Name: "shop", Namespace: "default", Uid: "u-1"},
			Hostname: "shop",
			Linux:    &runtime.LinuxPodSandboxConfig{SecurityContext: &runtime.LinuxSandboxSecurityContext{}},
		},
		SandboxID: "5a",
		Image: v1.Image{Config: v1.ImageConfig{
			Entrypoint: []string{"/bin/web"}, Cmd: []string{"--port", "80"}, WorkingDir: "srv",
			Env: []string{"PATH=/usr/bin:/bin", "LANG=C", "malformed"},
		}},
		Rootfs:      "/data/rootfs",
		User:        pod.User{UID: 1000, GID: 1000, Groups: []uint32{1000, 50}},
		Namespaces:  pod.Namespaces{Net: "/ns/net", IPC: "/ns/ipc", UTS: "/ns/uts"},
		CgroupsPath: "/kubepods/podu-1/c",
		Host: HostFacts{
			SwapAccounting: true, HugepageSizes: []string{"2MB"}, MinOOMScoreAdj: -1000, Seccomp: true, RecursiveReadOnly: true,
			Arch: specs.ArchX86_64, Kernel: Kernel{6, 18},
			Devices: []specs.LinuxDevice{{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}, {Path: "/dev/pts/3", Type: "c", Major: 136, Minor: 3}},
		},
		Hostname: "/run/s/hostname", ResolvConf: "/run/s/resolv.conf", HostsFile: "/run/s/hosts", Shm: "/run/s/shm",
	}
}

// security returns the input's security context to be changed.
func (in Input) securityContext() *runtime.LinuxContainerSecurityContext {
	return in.Container.Linux.SecurityContext
}

func TestSpecificationsAreWhatTheirGoldenFilesSay(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"ordinary": func(*Input) {},
		"v2": func(in *Input) {
			in.Host.CgroupV2 = true
			in.Container.Linux.Resources.Unified = map[string]string{"memory.high": "60000000", "memory.oom.group": "1"}
			in.Defaults.PidsLimit = 1000
		},
		"privileged": func(in *Input) {
			in.Sandbox.Linux.SecurityContext.Privileged = true
			in.securityContext().Privileged = true
			in.Host.Capabilities = []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}
			in.ProcessLabel, in.MountLabel = "u:r:t:s0", "u:object_r:f:s0"
		},
		"host-namespaces": func(in *Input) {
			node := runtime.NamespaceMode_NODE
			in.securityContext().NamespaceOptions = &runtime.NamespaceOption{Network: node, Ipc: node, Pid: node}
			in.Namespaces = pod.Namespaces{}
		},
		"shared-pid-selinux-apparmor-tty": func(in *Input) {
			in.securityContext().NamespaceOptions = &runtime.NamespaceOption{Pid: runtime.NamespaceMode_POD}
			in.Namespaces.PID, in.Namespaces.UTS = "/ns/pid", ""
			in.ProcessLabel, in.MountLabel = "u:r:t:s0", "u:object_r:f:s0"
			in.Host.AppArmor = true
			in.securityContext().Apparmor = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "my-profile"}
			in.Container.Tty = true
			in.securityContext().ReadonlyRootfs = true
		},
		"user-namespace-on-host-network": func(in *Input) {
			node := runtime.NamespaceMode_NODE
			in.securityContext().NamespaceOptions = &runtime.NamespaceOption{Network: node, Ipc: node, Pid: node}
			in.Namespaces = pod.Namespaces{User: "/ns/user"}
		},
		"mounts-and-devices": func(in *Input) {
			in.Container.Mounts = []*runtime.Mount{
				{ContainerPath: "/data/deep/er", HostPath: "/host/b"},
				{ContainerPath: "/data/", HostPath: "/host/link", Readonly: true, Propagation: runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
				{ContainerPath: "/etc/hosts", HostPath: "/host/hosts"},
				{ContainerPath: "/dev/shm", HostPath: "/host/shm"},
				{ContainerPath: "/ro", HostPath: "/host/ro", Readonly: true, RecursiveReadOnly: true, MountOptions: []string{"noexec", "nosuid"}},
				{ContainerPath: "/image", Image: &runtime.ImageSpec{Image: "sha256:2"}, Readonly: true},
				{ContainerPath: "/mapped", HostPath: "/host/m", UidMappings: []*runtime.IDMapping{{HostId: 65536, Length: 65536}},
					GidMappings: []*runtime.IDMapping{{HostId: 65536, Length: 65536}}},
			}
			for _, p := range []string{"/host/b", "/real", "/host/hosts", "/host/shm", "/host/ro", "/images/2", "/host/m"} {
				in.Sources = append(in.Sources, Source{Path: p, Slave: true})
			}
			in.Extra = []specs.Mount{{Destination: "/volume", Type: "bind", Source: "/data/volumes/1", Options: []string{"rbind"}}}
			in.Devices = []Device{{LinuxDevice: specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}, Access: "rw"}}
			in.Defaults.DeviceOwnership = true
		},
		"no-security-context": func(in *Input) {
			in.Container.Linux = nil
			in.Container.Command, in.Container.WorkingDir = []string{"sh"}, "/tmp"
			in.Namespaces.PID = "/ns/pid"
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			change(&in)
			s, err := Container(in)
			if err != nil {
				t.Fatal(err)
			}
			if f := s.Linux.Seccomp; f != nil { // has golden files of its own
				s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: f.DefaultAction, Architectures: f.Architectures}
			}
			checkJSON(t, name, s)
		})
	}
}

// checkJSON compares with testdata/NAME.golden.json.
func checkJSON(t *testing.T, name string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", name+".golden.json"), string(got)+"\n")
}

func TestTheSameInputGivesTheSameSpecification(t *testing.T) {
	in := input()
	first, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(first)
	first.Process.Args[0], first.Process.User.AdditionalGids[0], first.Linux.MaskedPaths[0] = "changed", 7, "/changed"
	first.Process.Capabilities.Bounding[0] = "changed"
	first.Linux.Seccomp.Syscalls[0].Names[0] = "changed"
	second, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(second); !bytes.Equal(before, after) {
		t.Error("a change of the result reached the input")
	}
}

// TestBadRequestsAreRefused: every refusal is one line that names field and value.
func TestBadRequestsAreRefused(t *testing.T) {
	mount := func(m *runtime.Mount) func(*Input) {
		return func(in *Input) { in.Container.Mounts = []*runtime.Mount{m} }
	}
	sec := func(change func(*runtime.LinuxContainerSecurityContext)) func(*Input) {
		return func(in *Input) { change(in.securityContext()) }
	}
	res := func(change func(*runtime.LinuxContainerResources)) func(*Input) {
		return func(in *Input) { change(in.Container.Linux.Resources) }
	}
	type ctx = runtime.LinuxContainerSecurityContext
	type limits = runtime.LinuxContainerResources
	for name, c := range map[string]struct {
		change func(*Input)
		text   string
		kind   error // nil is pod.ErrInvalid
	}{
		"no command":                 {func(in *Input) { in.Image.Config.Entrypoint, in.Image.Config.Cmd = nil, nil }, "command", nil},
		"empty command":              {func(in *Input) { in.Container.Command = []string{""} }, "command", nil},
		"NUL in args":                {func(in *Input) { in.Container.Args = []string{"a\x00b"} }, "NUL", nil},
		"huge argument":              {func(in *Input) { in.Container.Args = []string{strings.Repeat("x", 131072)} }, "131072 bytes", nil},
		"huge environment":           {func(in *Input) { in.Image.Config.Env = manyVariables(100000, 100) }, "execve", nil},
		"a million variables":        {func(in *Input) { in.Image.Config.Env = make([]string, 1000000) }, "1000000", nil},
		"bad env key":                {func(in *Input) { in.Container.Envs = []*runtime.KeyValue{{Key: "A=B"}} }, `"A=B"`, nil},
		"NUL in env":                 {func(in *Input) { in.Container.Envs = []*runtime.KeyValue{{Key: "A", Value: []byte{0}}} }, "A", nil},
		"cwd through fd":             {func(in *Input) { in.Container.WorkingDir = "/proc/self/fd/8" }, "/proc/self/fd/8", nil},
		"image cwd through fd":       {func(in *Input) { in.Image.Config.WorkingDir = "//proc/./1/../self//fd/8/.." }, "/proc/self/fd", nil},
		"relative rootfs":            {func(in *Input) { in.Rootfs = "rootfs" }, `"rootfs"`, nil},
		"privileged in plain pod":    {sec(func(s *ctx) { s.Privileged = true }), "privileged", nil},
		"unknown capability":         {sec(func(s *ctx) { s.Capabilities = &runtime.Capability{AddCapabilities: []string{"FLY"}} }), `"FLY"`, nil},
		"unknown dropped capability": {sec(func(s *ctx) { s.Capabilities = &runtime.Capability{DropCapabilities: []string{"CAP_FLY"}} }), `"CAP_FLY"`, nil},
		"ambient ALL":                {sec(func(s *ctx) { s.Capabilities = &runtime.Capability{AddAmbientCapabilities: []string{"ALL"}} }), `"ALL"`, nil},
		"pod pid without a pod's":    {sec(func(s *ctx) { s.NamespaceOptions = &runtime.NamespaceOption{} }), "pid", nil},
		"target without id":          {sec(func(s *ctx) { s.NamespaceOptions = &runtime.NamespaceOption{Pid: runtime.NamespaceMode_TARGET} }), "target_id", nil},
		"target that is gone": {sec(func(s *ctx) {
			s.NamespaceOptions = &runtime.NamespaceOption{Pid: runtime.NamespaceMode_TARGET, TargetId: "abc"}
		}), `"abc"`, nil},
		"target network":       {sec(func(s *ctx) { s.NamespaceOptions.Network = runtime.NamespaceMode_TARGET }), "network", nil},
		"unknown mode":         {sec(func(s *ctx) { s.NamespaceOptions.Ipc = 9 }), "9", nil},
		"relative mask":        {sec(func(s *ctx) { s.MaskedPaths = []string{"proc"} }), `"proc"`, nil},
		"seccomp without path": {sec(func(s *ctx) { s.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost} }), "localhost_ref", nil},
		"seccomp not found": {sec(func(s *ctx) {
			s.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "/p/x.json"}
		}), `"/p/x.json"`, nil},
		"seccomp of unknown type": {sec(func(s *ctx) { s.Seccomp.ProfileType = 7 }), "7", nil},
		"seccomp ref and default": {sec(func(s *ctx) { s.Seccomp.LocalhostRef = "/x" }), `"/x"`, nil},
		"deprecated seccomp":      {sec(func(s *ctx) { s.Seccomp, s.SeccompProfilePath = nil, "strange" }), `"strange"`, nil},
		"apparmor on a host without": {sec(func(s *ctx) {
			s.Apparmor = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "x"}
		}), `"x"`, pod.ErrUnsupported},
		"seccomp on a host without": {func(in *Input) {
			in.Host.Seccomp, in.Seccomp = false, DefaultProfile()
			in.securityContext().Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "/x"}
		}, `"/x"`, pod.ErrUnsupported},
		"small memory":      {res(func(r *limits) { r.MemoryLimitInBytes = 4096 }), "memory limit 4096 below runtime minimum 12582912", nil},
		"negative memory":   {res(func(r *limits) { r.MemoryLimitInBytes = -5 }), "memory limit -5", nil},
		"swap below memory": {res(func(r *limits) { r.MemorySwapLimitInBytes = 1 << 20 }), "1048576", nil},
		"swap alone":        {res(func(r *limits) { r.MemoryLimitInBytes, r.MemorySwapLimitInBytes = 0, 1<<20 }), "1048576", nil},
		"short period":      {res(func(r *limits) { r.CpuPeriod = 10 }), "cpu_period: 10", nil},
		"short quota":       {res(func(r *limits) { r.CpuQuota = 10 }), "cpu_quota: 10", nil},
		"negative shares":   {res(func(r *limits) { r.CpuShares = -1 }), "cpu_shares: -1", nil},
		"too many shares":   {res(func(r *limits) { r.CpuShares = 1<<18 + 1 }), "cpu_shares: 262145", nil},
		"cpuset":            {res(func(r *limits) { r.CpusetCpus = "0-" }), `"0-"`, nil},
		"cpuset backwards":  {res(func(r *limits) { r.CpusetMems = "3-1" }), `"3-1"`, nil},
		"oom_score_adj":     {res(func(r *limits) { r.OomScoreAdj = 1001 }), "1001", nil},
		"page size":         {res(func(r *limits) { r.HugepageLimits = []*runtime.HugepageLimit{{PageSize: "2M"}} }), `"2M"`, nil},
		"page size unknown": {res(func(r *limits) { r.HugepageLimits = []*runtime.HugepageLimit{{PageSize: "3MB", Limit: 5}} }), "3MB", nil},
		"unified on v1":     {res(func(r *limits) { r.Unified = map[string]string{"memory.high": "1"} }), "unified", pod.ErrUnsupported},
		"unified core file": {func(in *Input) {
			in.Host.CgroupV2 = true
			in.Container.Linux.Resources.Unified = map[string]string{"cgroup.kill": "1"}
		}, `"cgroup.kill"`, nil},
		"unified path": {func(in *Input) {
			in.Host.CgroupV2 = true
			in.Container.Linux.Resources.Unified = map[string]string{"a.b/../c": "1"}
		}, `"a.b/../c"`, nil},
		"relative target":     {mount(&runtime.Mount{ContainerPath: "x", HostPath: "/h"}), `"x"`, nil},
		"root target":         {mount(&runtime.Mount{ContainerPath: "/a/..", HostPath: "/h"}), "nothing can be mounted at /", nil},
		"relative source":     {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "h"}), `"h"`, nil},
		"no source":           {mount(&runtime.Mount{ContainerPath: "/x"}), "host_path", nil},
		"image and host path": {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", Image: &runtime.ImageSpec{Image: "i"}, Readonly: true}), `"i"`, nil},
		"writable image": {func(in *Input) {
			in.Container.Mounts = []*runtime.Mount{{ContainerPath: "/x", Image: &runtime.ImageSpec{Image: "i"}}}
			in.Sources = []Source{{Path: "/images/i"}}
		}, "read-only", nil},
		"rro without ro":      {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", RecursiveReadOnly: true}), "recursive_read_only", nil},
		"rro and propagation": {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", RecursiveReadOnly: true, Readonly: true, Propagation: 1}), "recursive_read_only", nil},
		"rro on an old host": {func(in *Input) {
			in.Host.RecursiveReadOnly = false
			in.Container.Mounts = []*runtime.Mount{{ContainerPath: "/x", HostPath: "/h", RecursiveReadOnly: true, Readonly: true}}
		}, "/x", pod.ErrRROUnsupported},
		"unknown propagation":   {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", Propagation: 5}), "5", nil},
		"private bidirectional": {propagate(runtime.MountPropagation_PROPAGATION_BIDIRECTIONAL, Source{Path: "/h", Slave: true}), `"/h"`, nil},
		"private slave":         {propagate(runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, Source{Path: "/h"}), `"/h"`, nil},
		"one-sided mapping":     {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", UidMappings: []*runtime.IDMapping{{}}}), "/x", nil},
		"option rw":             {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", MountOptions: []string{"rw"}}), `"rw"`, nil},
		"option that loosens":   {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", MountOptions: []string{"suid"}}), `"suid"`, nil},
		"unknown option":        {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", MountOptions: []string{"lowerdir=/"}}), `"lowerdir=/"`, nil},
		"contradicting options": {mount(&runtime.Mount{ContainerPath: "/x", HostPath: "/h", MountOptions: []string{"noatime", "relatime"}}), "relatime contradicts noatime", nil},
		"too many mounts":       {func(in *Input) { in.Container.Mounts = make([]*runtime.Mount, maxMounts+1) }, "10001", nil},
		"device permissions":    {func(in *Input) { in.Devices = []Device{{specs.LinuxDevice{Path: "/dev/x", Type: "c"}, "rx"}} }, `"rx"`, nil},
		"device twice rw":       {func(in *Input) { in.Devices = []Device{{specs.LinuxDevice{Path: "/dev/x", Type: "c"}, "rr"}} }, `"rr"`, nil},
		"device type":           {func(in *Input) { in.Devices = []Device{{specs.LinuxDevice{Path: "/dev/x", Type: "z"}, "rw"}} }, `"z"`, nil},
		"device path":           {func(in *Input) { in.Devices = []Device{{specs.LinuxDevice{Path: "dev/x", Type: "c"}, "rw"}} }, `"dev/x"`, nil},
		"default rlimit":        {func(in *Input) { in.Defaults.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN"}} }, `"RLIMIT_FUN"`, nil},
		"soft above hard":       {func(in *Input) { in.Defaults.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 2, Hard: 1}} }, "RLIMIT_NOFILE", nil},
		"default env":           {func(in *Input) { in.Defaults.Env = []string{"X"} }, `"X"`, nil},
		"hostname":              {func(in *Input) { in.Namespaces.UTS, in.Sandbox.Hostname = "", "a b" }, `"a b"`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			c.change(&in)
			s, err := Container(in)
			kind := c.kind
			if kind == nil {
				kind = pod.ErrInvalid
			}
			if s != nil || !errors.Is(err, kind) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("%v", err)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 500 {
				t.Errorf("not one readable line: %q", err)
			}
		})
	}
}

func propagate(p runtime.MountPropagation, source Source) func(*Input) {
	return func(in *Input) {
		in.Container.Mounts = []*runtime.Mount{{ContainerPath: "/x", HostPath: source.Path, Propagation: p}}
		in.Sources = []Source{source}
	}
}

func manyVariables(n, size int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "V" + strings.Repeat("x", size) + string(rune('a'+i%26)) + strings.Repeat("y", i/26%50) + strings.Repeat("z", i/1300) + "="
	}
	return list
}

func TestArgumentsFollowDockersRules(t *testing.T) {
	ep, cmd := []string{"ep"}, []string{"cmd"}
	for _, c := range []struct{ command, args, entrypoint, cmd, want []string }{
		{nil, nil, ep, cmd, []string{"ep", "cmd"}},
		{nil, nil, nil, cmd, cmd},
		{nil, nil, ep, nil, ep},
		{nil, []string{"a"}, ep, cmd, []string{"ep", "a"}},
		{[]string{"c"}, nil, ep, cmd, []string{"c"}},
		{[]string{"c"}, []string{"a"}, ep, cmd, []string{"c", "a"}},
		{nil, []string{"a"}, nil, cmd, []string{"a"}},
	} {
		got, err := arguments(&runtime.ContainerConfig{Command: c.command, Args: c.args}, c.entrypoint, c.cmd)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestEnvironmentKeepsValuesOrderAndTheLastOfAName(t *testing.T) {
	in := input()
	in.Defaults.Env = []string{"LANG=default", "ADMIN=1"}
	in.Image.Config.Env = []string{"LANG=image", "EMPTY=", "=x", "nothing", "A=1"}
	in.Container.Envs = []*runtime.KeyValue{{Key: "A", Value: []byte("2")}, {Key: "RAW", Value: []byte("ü\x01\n=")}, {Key: "A", Value: []byte("3")}}
	s, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{defaultPath, "HOSTNAME=shop", "LANG=image", "ADMIN=1", "EMPTY=", "A=3", "RAW=ü\x01\n="}
	if !slices.Equal(s.Process.Env, want) {
		t.Errorf("got %q", s.Process.Env)
	}
	in.Container.Envs = []*runtime.KeyValue{{Key: "RAW", Value: []byte{'a', 0xff}}}
	if _, err := Container(in); !errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), "RAW") {
		t.Errorf("bytes that JSON cannot carry: %v", err)
	}
}

func TestWorkingDirectoryIsTheRequestsAndLeavesNoDescriptor(t *testing.T) {
	for _, c := range []struct{ request, image, want string }{
		{"", "", "/"}, {"/a", "/b", "/a"}, {"", "b/c", "/b/c"}, {"../../a", "", "/a"}, {"/proc", "", "/proc"}, {"/proc/sys/fs", "", "/proc/sys/fs"},
		{"/home/root/fd", "", "/home/root/fd"}, {"/proc/self/fd", "", ""}, {"/proc/12/cwd/x", "", ""}, {"/dev/fd/3", "", ""}, {"/proc/thread-self/fd/1", "", ""},
	} {
		got, err := workingDir(c.request, c.image)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestExecTakesThePlaceOfTheProgramOnly(t *testing.T) {
	s, err := Container(input())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Process(s.Process, []string{"sh", "-c", "id"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Terminal || !slices.Equal(p.Args, []string{"sh", "-c", "id"}) || !slices.Contains(p.Env, "TERM=xterm") || !p.NoNewPrivileges || p.User.UID != 1000 || p.Cwd != "/srv" {
		t.Errorf("%+v", p)
	}
	if s.Process.Terminal || slices.Contains(s.Process.Env, "TERM=xterm") || s.Process.Args[0] != "/bin/web" {
		t.Errorf("the container's process changed: %+v", s.Process)
	}
	for _, cmd := range [][]string{nil, {""}, {"a", "b\x00"}, {strings.Repeat("x", 1<<20)}} {
		if _, err := Process(s.Process, cmd, false); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%.20q: %v", cmd, err)
		}
	}
}

func TestMountsComeParentsFirstAndReplaceDefaults(t *testing.T) {
	in := input()
	in.Container.Mounts = []*runtime.Mount{
		{ContainerPath: "/a/b/c", HostPath: "/1"}, {ContainerPath: "/a", HostPath: "/2"}, {ContainerPath: "/dev", HostPath: "/dev"},
		{ContainerPath: "/a/b", HostPath: "/3"}, {ContainerPath: "/a/", HostPath: "/4"},
	}
	s, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range s.Mounts {
		if strings.HasPrefix(m.Destination, "/dev") || strings.HasPrefix(m.Destination, "/a") {
			got = append(got, m.Destination+"="+m.Source)
		}
	}
	if want := "/a=/2 /dev=/dev /a=/4 /a/b=/3 /a/b/c=/1"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
	if !slices.IsSortedFunc(s.Mounts, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) }) {
		t.Errorf("a child comes before its parent: %+v", s.Mounts)
	}
}

func TestDefaultMountsGiveWayToRequestedOnes(t *testing.T) {
	in := Input{
		Container: &runtime.ContainerConfig{Command: []string{"true"}, Mounts: []*runtime.Mount{{HostPath: "/mine", ContainerPath: "/both"}}},
		Sandbox:   &runtime.PodSandboxConfig{}, Rootfs: "/rootfs",
		Namespaces: pod.Namespaces{Net: "/n", IPC: "/i", UTS: "/u", PID: "/p"},
		Defaults: Defaults{Mounts: []specs.Mount{
			{Destination: "/both", Source: "/theirs", Type: "bind"}, {Destination: "/one", Source: "/theirs", Type: "bind"},
		}},
	}
	s, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, m := range s.Mounts {
		sources[m.Destination] += m.Source
	}
	if sources["/both"] != "/mine" || sources["/one"] != "/theirs" {
		t.Errorf("got %v", sources)
	}
}

func TestPropagationRaisesTheRootToWhatItNeeds(t *testing.T) {
	private, slave, shared := runtime.MountPropagation_PROPAGATION_PRIVATE, runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
		runtime.MountPropagation_PROPAGATION_BIDIRECTIONAL
	for _, c := range []struct {
		mounts []runtime.MountPropagation
		want   string
	}{
		{nil, ""}, {[]runtime.MountPropagation{private}, ""}, {[]runtime.MountPropagation{slave, private}, "rslave"},
		{[]runtime.MountPropagation{shared, slave}, "rshared"}, {[]runtime.MountPropagation{slave, shared}, "rshared"},
	} {
		in := input()
		for i, p := range c.mounts {
			in.Container.Mounts = append(in.Container.Mounts, &runtime.Mount{ContainerPath: "/m" + string(rune('0'+i)), HostPath: "/h", Propagation: p})
		}
		s, err := Container(in)
		if err != nil || s.Linux.RootfsPropagation != c.want {
			t.Errorf("%v: %q, %v", c.mounts, s.Linux.RootfsPropagation, err)
		}
	}
}

func TestCapabilitiesAreTheDefaultsWithWhatIsAddedAndDropped(t *testing.T) {
	all := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
	for name, c := range map[string]struct {
		add, drop, ambient []string
		want               string
		wantAmbient        string
	}{
		"default":            {want: "CHOWN KILL"},
		"add":                {add: []string{"NET_RAW", "cap_net_admin"}, want: "CHOWN KILL NET_ADMIN NET_RAW"},
		"drop":               {drop: []string{"KILL"}, want: "CHOWN"},
		"drop all, add one":  {add: []string{"NET_RAW"}, drop: []string{"all"}, want: "NET_RAW"},
		"add all, drop one":  {add: []string{"ALL"}, drop: []string{"SYS_ADMIN"}, want: "CHOWN KILL NET_ADMIN NET_RAW"},
		"both":               {add: []string{"NET_RAW"}, drop: []string{"NET_RAW"}, want: "CHOWN KILL"},
		"drop wins over all": {add: []string{"ALL"}, drop: []string{"ALL"}, want: ""},
		"not held":           {add: []string{"SYS_TIME", "NET_RAW"}, want: "CHOWN KILL NET_RAW"},
		"ambient":            {drop: []string{"ALL"}, ambient: []string{"NET_RAW"}, want: "NET_RAW", wantAmbient: "NET_RAW"},
		"ambient dropped":    {drop: []string{"NET_RAW"}, ambient: []string{"NET_RAW"}, want: "CHOWN KILL"},
		"ambient not held":   {ambient: []string{"SYS_TIME"}, want: "CHOWN KILL"},
	} {
		in := input()
		in.Host.Capabilities, in.Defaults.Capabilities = all, []string{"KILL", "CHOWN"}
		in.securityContext().Capabilities = &runtime.Capability{AddCapabilities: c.add, DropCapabilities: c.drop, AddAmbientCapabilities: c.ambient}
		var warned []string
		in.Warn = func(msg string, args ...any) { warned = append(warned, msg) }
		s, err := Container(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p := s.Process.Capabilities
		short := func(list []string) string { return strings.ReplaceAll(strings.Join(list, " "), "CAP_", "") }
		if short(p.Bounding) != c.want || short(p.Effective) != c.want || short(p.Permitted) != c.want {
			t.Errorf("%s: %+v", name, p)
		}
		if short(p.Ambient) != c.wantAmbient || short(p.Inheritable) != c.wantAmbient {
			t.Errorf("%s: ambient %q inheritable %q", name, p.Ambient, p.Inheritable)
		}
		if (len(warned) > 0) != strings.Contains(name, "not held") {
			t.Errorf("%s: warned %q", name, warned)
		}
	}
	if got := CapabilityNames(0x000001fffeffffff); len(got) != 40 || slices.Contains(got, "CAP_SYS_RESOURCE") {
		t.Errorf("40 of 41 bits: %q", got)
	}
}

func TestPrivilegedHasNoConfinement(t *testing.T) {
	in := input()
	in.Sandbox.Linux.SecurityContext.Privileged = true
	in.securityContext().Privileged = true
	in.Host.AppArmor, in.Defaults.AppArmorProfile = true, "default"
	in.Container.Mounts = []*runtime.Mount{{ContainerPath: "/x", HostPath: "/h"}}
	s, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Process.Capabilities.Bounding) != len(knownCapabilities) || s.Process.Capabilities.Inheritable != nil {
		t.Errorf("1: capabilities %+v", s.Process.Capabilities)
	}
	if s.Linux.MaskedPaths != nil || s.Linux.ReadonlyPaths != nil {
		t.Errorf("2: masks %q %q", s.Linux.MaskedPaths, s.Linux.ReadonlyPaths)
	}
	for _, m := range s.Mounts {
		if (m.Type == "proc" || m.Type == "sysfs" || m.Type == "cgroup") && slices.Contains(m.Options, "ro") {
			t.Errorf("3: %+v", m)
		}
	}
	if s.Process.ApparmorProfile != "" || s.Linux.Seccomp != nil || s.Process.SelinuxLabel != "" || s.Linux.MountLabel != "" {
		t.Errorf("4, 5, 8: %q %v %q", s.Process.ApparmorProfile, s.Linux.Seccomp, s.Process.SelinuxLabel)
	}
	if r := s.Linux.Resources.Devices; len(r) != 1 || !r[0].Allow || r[0].Access != "rwm" || r[0].Type != "" {
		t.Errorf("6: %+v", r)
	}
	if d := s.Linux.Devices; len(d) != 1 || d[0].Path != "/dev/kvm" {
		t.Errorf("7: %+v", d)
	}
	in.Defaults.PrivilegedWithoutHostDevices = true
	if s, err = Container(in); err != nil || s.Linux.Devices != nil {
		t.Errorf("without host devices: %+v, %v", s.Linux.Devices, err)
	}
}

func TestEmptyMasksMeanUnmasked(t *testing.T) {
	in := input()
	in.securityContext().MaskedPaths, in.securityContext().ReadonlyPaths = []string{}, nil
	s, err := Container(in)
	if err != nil || len(s.Linux.MaskedPaths) != 0 || len(s.Linux.ReadonlyPaths) != 0 {
		t.Errorf("%q %q %v", s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, err)
	}
}

func TestWhatTheHostCannotDoIsToldAndLeftOut(t *testing.T) {
	in := input()
	in.Host.MinOOMScoreAdj, in.Host.HugepageSizes, in.Host.Seccomp = 0, nil, false
	in.Host.HardLimits = map[string]uint64{"RLIMIT_NOFILE": 1024}
	in.Container.Linux.Resources.OomScoreAdj = -998
	in.Defaults.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 2048, Hard: 4096}}
	var told []string
	in.Warn = func(msg string, args ...any) { told = append(told, msg) }
	s, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	if *s.Process.OOMScoreAdj != 0 || s.Linux.Resources.HugepageLimits != nil || s.Linux.Seccomp != nil || s.Process.Rlimits[0] != (specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1024}) {
		t.Errorf("%d %v %v %+v", *s.Process.OOMScoreAdj, s.Linux.Resources.HugepageLimits, s.Linux.Seccomp, s.Process.Rlimits)
	}
	if len(told) != 4 {
		t.Errorf("told %q", told)
	}
}

func TestMemoryAndSwap(t *testing.T) {
	for _, c := range []struct {
		limit, swap int64
		accounting  bool
		want        int64 // 0 is unset
	}{
		{64 << 20, 0, true, 64 << 20}, {64 << 20, 0, false, 0}, {64 << 20, 128 << 20, true, 128 << 20}, {64 << 20, -1, true, -1}, {-1, -1, true, -1},
		{0, -1, true, 0}, {0, 0, true, 0},
	} {
		m, err := memoryResources(&runtime.LinuxContainerResources{MemoryLimitInBytes: c.limit, MemorySwapLimitInBytes: c.swap}, HostFacts{SwapAccounting: c.accounting}, Defaults{})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		var got int64
		if m != nil && m.Swap != nil {
			got = *m.Swap
		}
		if got != c.want || (m != nil) != (c.limit != 0) {
			t.Errorf("%+v: %+v", c, m)
		}
	}
}

func TestUpdatesKeepWhatTheyDoNotName(t *testing.T) {
	before := &runtime.LinuxContainerResources{CpuShares: 5, CpusetCpus: "0", MemoryLimitInBytes: 7, Unified: map[string]string{"a.b": "1", "c.d": "2"},
		HugepageLimits: []*runtime.HugepageLimit{{PageSize: "2MB"}}}
	after := MergeResources(before, &runtime.LinuxContainerResources{CpuShares: 6, CpuQuota: -1, Unified: map[string]string{"a.b": "3"}})
	if after.CpuShares != 6 || after.CpusetCpus != "0" || after.MemoryLimitInBytes != 7 || after.CpuQuota != -1 || after.Unified["a.b"] != "3" ||
		after.Unified["c.d"] != "2" || len(after.HugepageLimits) != 1 || before.Unified["a.b"] != "1" || before.CpuShares != 5 {
		t.Errorf("%+v", after)
	}
	if MergeResources(nil, nil) == nil {
		t.Error("nothing and nothing is an empty request")
	}
}

func TestOnlyListedAnnotationsAreePassed(t *testing.T) {
	in := input()
	in.Defaults.Annotations = []string{"example.org/*", "exact", "", "org.systemd.*", "[", "org.systemd.property.Listed"}
	in.Sandbox.Annotations = map[string]string{"example.org/a": "pod", "example.org.evil/a": "x", "exactly": "x", "prefix/exact": "x"}
	in.Container.Annotations = map[string]string{"example.org/a": "container", "exact": "1", "org.systemd.property.ExecStopPost": "x",
		"org.systemd.property.Listed": "y", "io.kubernetes.cri.container-type": "sandbox", "example.org/a/b": "x"}
	in.Image.Config.Labels = map[string]string{"example.org/label": "x", "exact": "2"}
	s, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	for key := range s.Annotations {
		if strings.HasPrefix(key, "io.kubernetes.cri.") {
			continue
		}
		if !slices.Contains([]string{"example.org/a", "exact", "org.systemd.property.Listed"}, key) {
			t.Errorf("%s was passed", key)
		}
	}
	if s.Annotations["example.org/a"] != "container" || s.Annotations["exact"] != "1" || s.Annotations["io.kubernetes.cri.container-type"] != "container" {
		t.Errorf("%q", s.Annotations)
	}
}

func TestAppArmorProfileIsTheOneThatIsAskedForOrTheDefault(t *testing.T) {
	profile := func(kind runtime.SecurityProfile_ProfileType, ref string) *runtime.SecurityProfile {
		return &runtime.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	}
	for name, c := range map[string]struct {
		new  *runtime.SecurityProfile
		old  string
		want string
	}{
		"unset":             {nil, "", "vitrine-default"},
		"runtime default":   {profile(runtime.SecurityProfile_RuntimeDefault, ""), "unconfined", "vitrine-default"},
		"unconfined":        {profile(runtime.SecurityProfile_Unconfined, ""), "", "unconfined"},
		"localhost":         {profile(runtime.SecurityProfile_Localhost, "p"), "", "p"},
		"localhost, prefix": {profile(runtime.SecurityProfile_Localhost, "localhost/p"), "", "p"},
		"deprecated":        {nil, "localhost/q", "q"},
		"deprecated off":    {nil, "unconfined", "unconfined"},
	} {
		in := input()
		in.Host.AppArmor, in.Defaults.AppArmorProfile = true, "vitrine-default"
		in.securityContext().Apparmor, in.securityContext().ApparmorProfile = c.new, c.old
		s, err := Container(in)
		if err != nil || s.Process.ApparmorProfile != c.want {
			t.Errorf("%s: %q, %v", name, s.Process.ApparmorProfile, err)
		}
	}
}
