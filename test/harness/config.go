package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podSeq numbers the pods of this process, so that every one has a name and a uid of its own.
var podSeq atomic.Int64

// Pod builds a sandbox request as kubelet would: own uid, cgroup below the
// instance's parent, log directory, pod network. Change it before use.
func (in *Instance) Pod(name string) *runtime.PodSandboxConfig {
	uid := fmt.Sprintf("%s-%d-%d", in.Name, os.Getpid(), podSeq.Add(1))
	return &runtime.PodSandboxConfig{
		Metadata:     &runtime.PodSandboxMetadata{Name: name, Namespace: "test", Uid: uid},
		Hostname:     name,
		LogDirectory: filepath.Join(in.Dir, "logs", uid),
		DnsConfig:    &runtime.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"test.svc.cluster.local"}},
		Labels:       map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "test", "io.kubernetes.pod.uid": uid},
		Linux: &runtime.LinuxPodSandboxConfig{
			CgroupParent: in.PodCgroup(uid),
			SecurityContext: &runtime.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtime.NamespaceOption{Network: runtime.NamespaceMode_POD, Pid: runtime.NamespaceMode_CONTAINER, Ipc: runtime.NamespaceMode_POD},
				Seccomp:          &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

// HostPod is Pod on the host's network: no network namespace and no CNI.
func (in *Instance) HostPod(name string) *runtime.PodSandboxConfig {
	pod := in.Pod(name)
	pod.Linux.SecurityContext.NamespaceOptions.Network = runtime.NamespaceMode_NODE
	pod.Hostname = ""
	return pod
}

// Container builds a container request as kubelet would. Its log is NAME_0.log in
// the pod's log directory.
func Container(pod *runtime.PodSandboxConfig, name, image string, command ...string) *runtime.ContainerConfig {
	return &runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{Name: name},
		Image:    &runtime.ImageSpec{Image: image, UserSpecifiedImage: image},
		Command:  command,
		LogPath:  name + "_0.log",
		Labels: map[string]string{
			"io.kubernetes.container.name": name, "io.kubernetes.pod.name": pod.Metadata.Name,
			"io.kubernetes.pod.namespace": pod.Metadata.Namespace, "io.kubernetes.pod.uid": pod.Metadata.Uid,
		},
		Linux: &runtime.LinuxContainerConfig{
			Resources: &runtime.LinuxContainerResources{CpuShares: 256, MemoryLimitInBytes: 256 << 20, OomScoreAdj: 900},
			SecurityContext: &runtime.LinuxContainerSecurityContext{
				NamespaceOptions: pod.Linux.SecurityContext.NamespaceOptions,
				Seccomp:          &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_RuntimeDefault},
				MaskedPaths:      []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"},
				ReadonlyPaths:    []string{"/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
}

// LogPath is where the container's log lies on the host.
func LogPath(pod *runtime.PodSandboxConfig, c *runtime.ContainerConfig) string {
	return filepath.Join(pod.LogDirectory, c.LogPath)
}
