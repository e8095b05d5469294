package nri

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// editor makes single changes to a specification; the library's generator, which
// knows the order of adjustments and how removal is marked, calls it.
type editor struct{ spec *specs.Spec }

func (e *editor) Spec() *specs.Spec { return e.spec }

func (e *editor) hooks() *specs.Hooks {
	if e.spec.Hooks == nil {
		e.spec.Hooks = &specs.Hooks{}
	}
	return e.spec.Hooks
}

func (e *editor) resources() *specs.LinuxResources {
	if e.spec.Linux.Resources == nil {
		e.spec.Linux.Resources = &specs.LinuxResources{}
	}
	return e.spec.Linux.Resources
}

func (e *editor) cpu() *specs.LinuxCPU {
	r := e.resources()
	if r.CPU == nil {
		r.CPU = &specs.LinuxCPU{}
	}
	return r.CPU
}

func (e *editor) memory() *specs.LinuxMemory {
	r := e.resources()
	if r.Memory == nil {
		r.Memory = &specs.LinuxMemory{}
	}
	return r.Memory
}

func put(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}

func (e *editor) AddAnnotation(key, value string)  { put(&e.spec.Annotations, key, value) }
func (e *editor) RemoveAnnotation(key string)      { delete(e.spec.Annotations, key) }
func (e *editor) AddLinuxSysctl(key, value string) { put(&e.spec.Linux.Sysctl, key, value) }
func (e *editor) RemoveLinuxSysctl(key string)     { delete(e.spec.Linux.Sysctl, key) }

func (e *editor) AddLinuxResourcesUnified(key, value string) { put(&e.resources().Unified, key, value) }

func (e *editor) SetProcessArgs(args []string) { e.spec.Process.Args = args }
func (e *editor) ClearProcessEnv()             { e.spec.Process.Env = nil }

func (e *editor) AddProcessEnv(name, value string) {
	env := e.spec.Process.Env
	if at := slices.IndexFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") }); at >= 0 {
		env[at] = name + "=" + value
		return
	}
	e.spec.Process.Env = append(env, name+"="+value)
}

func (e *editor) SetProcessOOMScoreAdj(adj int) { e.spec.Process.OOMScoreAdj = &adj }

func (e *editor) AddPreStartHook(h specs.Hook) {
	e.hooks().Prestart = append(e.hooks().Prestart, h) //nolint:staticcheck // deprecated and still used
}
func (e *editor) AddPostStartHook(h specs.Hook) {
	e.hooks().Poststart = append(e.hooks().Poststart, h)
}
func (e *editor) AddPostStopHook(h specs.Hook) { e.hooks().Poststop = append(e.hooks().Poststop, h) }

func (e *editor) Mounts() []specs.Mount  { return e.spec.Mounts }
func (e *editor) ClearMounts()           { e.spec.Mounts = nil }
func (e *editor) AddMount(m specs.Mount) { e.spec.Mounts = append(e.spec.Mounts, m) }
func (e *editor) RemoveMount(target string) {
	e.spec.Mounts = slices.DeleteFunc(e.spec.Mounts, func(m specs.Mount) bool { return m.Destination == target })
}

func (e *editor) AddDevice(d specs.LinuxDevice) {
	e.RemoveDevice(d.Path)
	e.spec.Linux.Devices = append(e.spec.Linux.Devices, d)
}

func (e *editor) RemoveDevice(path string) {
	e.spec.Linux.Devices = slices.DeleteFunc(e.spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == path })
}

func (e *editor) AddLinuxResourcesDevice(allow bool, kind string, major, minor *int64, access string) {
	r := e.resources()
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: major, Minor: minor, Access: access})
}

func (e *editor) AddOrReplaceLinuxNamespace(kind, path string) error {
	known := []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace,
		specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
	}
	if !slices.Contains(known, specs.LinuxNamespaceType(kind)) {
		return fmt.Errorf("namespace of unknown type %.40q", kind)
	}
	if err := e.RemoveLinuxNamespace(kind); err != nil {
		return err
	}
	e.spec.Linux.Namespaces = append(e.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind), Path: path})
	return nil
}

func (e *editor) RemoveLinuxNamespace(kind string) error {
	e.spec.Linux.Namespaces = slices.DeleteFunc(e.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return string(n.Type) == kind
	})
	return nil
}

func (e *editor) AddLinuxResourcesHugepageLimit(size string, limit uint64) {
	r := e.resources()
	r.HugepageLimits = slices.DeleteFunc(r.HugepageLimits, func(l specs.LinuxHugepageLimit) bool { return l.Pagesize == size })
	r.HugepageLimits = append(r.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: limit})
}

func (e *editor) SetLinuxCgroupsPath(path string)                  { e.spec.Linux.CgroupsPath = path }
func (e *editor) SetLinuxResourcesCPUCpus(cpus string)             { e.cpu().Cpus = cpus }
func (e *editor) SetLinuxResourcesCPUMems(mems string)             { e.cpu().Mems = mems }
func (e *editor) SetLinuxResourcesCPUPeriod(period uint64)         { e.cpu().Period = &period }
func (e *editor) SetLinuxResourcesCPUQuota(quota int64)            { e.cpu().Quota = &quota }
func (e *editor) SetLinuxResourcesCPURealtimePeriod(period uint64) { e.cpu().RealtimePeriod = &period }
func (e *editor) SetLinuxResourcesCPURealtimeRuntime(time int64)   { e.cpu().RealtimeRuntime = &time }
func (e *editor) SetLinuxResourcesCPUShares(shares uint64)         { e.cpu().Shares = &shares }
func (e *editor) SetLinuxResourcesMemoryLimit(limit int64)         { e.memory().Limit = &limit }
func (e *editor) SetLinuxResourcesMemorySwap(swap int64)           { e.memory().Swap = &swap }

func (e *editor) SetLinuxRootPropagation(propagation string) error {
	e.spec.Linux.RootfsPropagation = propagation
	return nil
}
