package nri

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func specification() *specs.Spec {
	limit := int64(64 << 20)
	return &specs.Spec{
		Process: &specs.Process{
			Args: []string{"/bin/old"}, Env: []string{"KEEP=1", "CHANGE=old", "DROP=1"},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 10, Soft: 10}},
		},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/drop", Type: "tmpfs"}},
		Linux: &specs.Linux{
			CgroupsPath: "/pod/c", Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}},
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.IPCNamespace, Path: "/ipc"}},
			Devices:    []specs.LinuxDevice{{Path: "/dev/drop", Type: "c"}},
		},
	}
}

func TestAdjustmentsAreApplied(t *testing.T) {
	s := specification()
	a := &api.ContainerAdjustment{}
	a.AddEnv("CHANGE", "new")
	a.RemoveEnv("DROP")
	a.AddEnv("ADD", "1")
	a.SetArgs([]string{"/bin/new"})
	a.AddAnnotation("was", "here")
	a.RemoveMount("/drop")
	a.AddMount(&api.Mount{Destination: "/a/b", Source: "/src", Type: "bind"})
	a.RemoveDevice("/dev/drop")
	a.AddDevice(&api.LinuxDevice{Path: "/dev/add", Type: "c", Major: 1, Minor: 3})
	a.SetLinuxMemoryLimit(1 << 20)
	a.SetLinuxCPUShares(7)
	a.SetLinuxPidLimits(9)
	a.SetLinuxOomScoreAdj(func() *int { n := 5; return &n }())
	a.AddRlimit("RLIMIT_NOFILE", 99, 98)
	a.AddHooks(&api.Hooks{Poststop: []*api.Hook{{Path: "/hook"}}})
	a.AddCDIDevice(&api.CDIDevice{Name: "v.com/c=d"})
	a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "ipc", Path: "/other"})
	a.SetLinuxSysctl("net.a", "1")
	var injected []string
	p := &Plugins{inject: func(_ *specs.Spec, names []string) error { injected = names; return nil }}
	if err := p.apply(s, a); err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"env":        slices.Equal(s.Process.Env, []string{"KEEP=1", "CHANGE=new", "ADD=1"}),
		"args":       slices.Equal(s.Process.Args, []string{"/bin/new"}),
		"annotation": s.Annotations["was"] == "here",
		"mounts":     len(s.Mounts) == 2 && s.Mounts[0].Destination == "/proc" && s.Mounts[1].Destination == "/a/b",
		"devices":    len(s.Linux.Devices) == 1 && s.Linux.Devices[0].Path == "/dev/add" && len(s.Linux.Resources.Devices) == 1,
		"memory":     *s.Linux.Resources.Memory.Limit == 1<<20 && s.Linux.Resources.Memory.Swap == nil,
		"shares":     *s.Linux.Resources.CPU.Shares == 7,
		"pids":       *s.Linux.Resources.Pids.Limit == 9,
		"oom":        *s.Process.OOMScoreAdj == 5,
		"rlimits":    reflect.DeepEqual(s.Process.Rlimits, []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 99, Soft: 98}}),
		"hooks":      s.Hooks != nil && len(s.Hooks.Poststop) == 1,
		"cdi":        slices.Equal(injected, []string{"v.com/c=d"}),
		"namespaces": len(s.Linux.Namespaces) == 2 && s.Linux.Namespaces[1].Path == "/other",
		"sysctl":     s.Linux.Sysctl["net.a"] == "1",
	} {
		if !ok {
			t.Errorf("%s is not what was asked for", what)
		}
	}
	if t.Failed() {
		t.Logf("%+v\n%+v\n%+v", s.Process, s.Linux, s.Mounts)
	}
}

func TestAdjustmentThatCannotBeIsRefused(t *testing.T) {
	for name, change := range map[string]func(*api.ContainerAdjustment){
		"cgroups_path":  func(a *api.ContainerAdjustment) { a.SetLinuxCgroupsPath("/else") },
		"blockio class": func(a *api.ContainerAdjustment) { a.SetLinuxBlockIOClass("gold") },
		"RDT class":     func(a *api.ContainerAdjustment) { a.SetLinuxRDTClass("gold") },
		"unknown type":  func(a *api.ContainerAdjustment) { a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "warp"}) },
	} {
		t.Run(name, func(t *testing.T) {
			a := &api.ContainerAdjustment{}
			change(a)
			if err := (&Plugins{}).apply(specification(), a); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLimitsSurviveTheWayToPluginsAndBack(t *testing.T) {
	res := &runtime.LinuxContainerResources{
		CpuPeriod: 1, CpuQuota: 2, CpuShares: 3, MemoryLimitInBytes: 4, MemorySwapLimitInBytes: 5, CpusetCpus: "0-1", CpusetMems: "0",
		HugepageLimits: []*runtime.HugepageLimit{{PageSize: "2MB", Limit: 6}}, Unified: map[string]string{"memory.high": "7"},
	}
	got, err := toCRI(fromCRI(res))
	if err != nil || !proto.Equal(got, res) {
		t.Errorf("got %v, %v, want %v", got, err, res)
	}
	if none, err := toCRI(fromCRI(nil)); none != nil || err != nil {
		t.Errorf("nothing became %v, %v", none, err)
	}
	if _, err := toCRI(&api.LinuxResources{Memory: &api.LinuxMemory{Swappiness: api.UInt64(uint64(3))}}); !errors.Is(err, pod.ErrUnsupported) {
		t.Errorf("a limit that cannot be set: %v", err)
	}
}

func TestUnconfinedContainerIsToldWithoutPolicy(t *testing.T) {
	c := pod.Container{ID: "id"}
	if told := containerOf(c, specification()); told.Linux.SeccompPolicy != nil {
		t.Errorf("seccomp policy of an unconfined container: %v", told.Linux.SeccompPolicy)
	}
	confined := specification()
	confined.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	if told := containerOf(c, confined); told.Linux.SeccompPolicy.GetDefaultAction() != "SCMP_ACT_ERRNO" {
		t.Errorf("seccomp policy of a confined container: %v", told.Linux.SeccompPolicy)
	}
}
