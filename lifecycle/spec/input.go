package spec

import (
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Input is all that the specification of one container depends on. It is only
// read, and the result shares no memory with it that a caller would change.
type Input struct {
	// Container and Sandbox are the requests. Sandbox is the one of RunPodSandbox,
	// not the copy that comes with CreateContainer.
	Container *runtime.ContainerConfig
	Sandbox   *runtime.PodSandboxConfig
	// SandboxID becomes an annotation that external runtimes (runsc, kata) read.
	SandboxID pod.ID
	// Image is the configuration of the container's image.
	Image v1.Image
	// Rootfs is the absolute path of the mounted root file system.
	Rootfs string
	// User is what ResolveUser returned.
	User pod.User
	// Namespaces are the pod's pinned ones. A mode of POD whose path is empty is an
	// error for net, ipc and pid; an empty UTS path means a new one with the
	// sandbox's hostname.
	Namespaces pod.Namespaces
	// PidNS is the path of the target container's pid namespace; only read when
	// the request's pid mode is TARGET.
	PidNS string
	// CgroupsPath is linux.cgroupsPath, as cgroup.ContainerPath returns it.
	CgroupsPath string
	Host        HostFacts
	Defaults    Defaults
	// Seccomp is the profile that LocalhostSeccomp named, parsed by ParseProfile;
	// only read when the request asks for one.
	Seccomp *Profile
	// Sources has one entry per Container.Mounts, in that order: where the mount
	// really comes from. nil means the request's host paths, unchecked, which is
	// for tests and for requests without mounts.
	Sources []Source
	// Extra are mounts that are neither defaults nor requested, for example the
	// image's volumes. A mount of the request at the same path replaces them.
	Extra []specs.Mount
	// Devices are the request's, looked up on the host.
	Devices []Device
	// Hostname, ResolvConf and HostsFile are host paths of files shown at
	// /etc/hostname, /etc/resolv.conf and /etc/hosts unless the request mounts
	// something there. Empty means no such mount.
	Hostname, ResolvConf, HostsFile string
	// Shm is the host path of the pod's /dev/shm. Empty means a private tmpfs. It is
	// not read when the pod uses the host's IPC namespace.
	Shm string
	// ProcessLabel and MountLabel are SELinux labels; empty where SELinux is off. A
	// privileged container gets none.
	ProcessLabel, MountLabel string
	// Warn is told what was asked for and not done because the host cannot: a
	// constant message and slog-style attributes, so that (*slog.Logger).Warn fits.
	// nil drops them.
	Warn func(msg string, args ...any)
}

// Source is a request's mount as found on the host.
type Source struct {
	// Path has no symbolic links. For an image volume it is the mounted image with
	// image_sub_path applied.
	Path string
	// Shared and Slave say how the host's mount that holds Path propagates.
	Shared, Slave bool
}

// Device is a device node and what the container may do with it.
type Device struct {
	specs.LinuxDevice
	// Access is made of the letters r, w and m.
	Access string
}

// Kernel is a kernel's version as profiles ask for it.
type Kernel struct{ Major, Minor int }

// HostFacts are what the daemon found out about its host and itself at start. The
// zero value is a host that can do nothing special and has no limits.
type HostFacts struct {
	// Capabilities is the daemon's bounding set, as CAP_… names: no container can
	// have more. nil means all that this package knows.
	Capabilities []string
	// CgroupV2 is true on a pure cgroup v2 host.
	CgroupV2 bool
	// SwapAccounting says that the memory controller can limit swap.
	SwapAccounting bool
	// HugepageSizes are those that can be limited, for example 2MB. Empty means
	// that there is no hugetlb controller.
	HugepageSizes []string
	// MinOOMScoreAdj is the lowest oom_score_adj that the daemon may set; the
	// daemon's own one without CAP_SYS_RESOURCE. 0 means that it may not go below
	// 0; use -1000 for no bound.
	MinOOMScoreAdj int
	// HardLimits are the daemon's hard resource limits by OCI name (RLIMIT_…),
	// when it may not raise them. nil means no bound.
	HardLimits map[string]uint64
	// Seccomp, AppArmor: the kernel has it and it is enabled.
	Seccomp, AppArmor bool
	// RecursiveReadOnly: mount_setattr(2) exists and the handler's runtime uses it.
	RecursiveReadOnly bool
	// Kernel decides over conditional rules of seccomp profiles. Zero means that
	// every condition holds.
	Kernel Kernel
	// Arch is the native architecture; empty means the one of this build.
	Arch specs.Arch
	// Devices are those of the host's /dev, for privileged containers.
	Devices []specs.LinuxDevice
}

// Defaults are the administrator's wishes for all containers. The zero value gives
// the defaults named at each field.
type Defaults struct {
	// Capabilities replace DefaultCapabilities when not nil.
	Capabilities []string
	// Env is under the image's environment.
	Env []string
	// Rlimits are set in every container. nil means that the daemon's are inherited.
	Rlimits []specs.POSIXRlimit
	// MaskedPaths and ReadonlyPaths are for requests that have no security context
	// at all. nil means DefaultMaskedPaths and DefaultReadonlyPaths.
	MaskedPaths, ReadonlyPaths []string
	// AppArmorProfile is the loaded profile that RuntimeDefault means; empty means none.
	AppArmorProfile string
	// Seccomp is the profile that RuntimeDefault means; nil means DefaultProfile.
	Seccomp *Profile
	// SeccompUnset applies the default profile also where the request names none,
	// which means unconfined in CRI.
	SeccompUnset bool
	// Mounts are added to every container. A mount of the request at the same path
	// replaces one.
	Mounts []specs.Mount
	// Devices are added to every container.
	Devices []Device
	// PrivilegedWithoutHostDevices keeps the host's devices out of privileged containers.
	PrivilegedWithoutHostDevices bool
	// DeviceOwnership gives the request's devices to the container's user.
	DeviceOwnership bool
	// MinMemory is the lowest memory limit in bytes that is accepted; 0 means
	// DefaultMinMemory, a negative value none.
	MinMemory int64
	// PidsLimit bounds the processes of each container; 0 means no bound.
	PidsLimit int64
	// ShmSize is the size in bytes of a private /dev/shm; 0 means 64 MiB.
	ShmSize int64
	// Umask is that of the container's processes; nil leaves it to the runtime, 0022.
	Umask *uint32
	// Annotations are patterns (path.Match) of request annotations, pod's and
	// container's, that are passed to the runtime. nil means none.
	Annotations []string
}
