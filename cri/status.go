package cri

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// sandboxState is CRI's word for a sandbox's state: ready means that it can take
// containers.
func sandboxState(s pod.State) runtime.PodSandboxState {
	if s == pod.Ready {
		return runtime.PodSandboxState_SANDBOX_READY
	}
	return runtime.PodSandboxState_SANDBOX_NOTREADY
}

// containerState is CRI's word for a container's state. A container that is being
// stopped still runs; one whose start is not confirmed does not yet.
func containerState(s pod.State) runtime.ContainerState {
	switch s {
	case pod.Created, pod.Starting:
		return runtime.ContainerState_CONTAINER_CREATED
	case pod.Running, pod.Stopping:
		return runtime.ContainerState_CONTAINER_RUNNING
	case pod.Exited, pod.Removing:
		return runtime.ContainerState_CONTAINER_EXITED
	}
	return runtime.ContainerState_CONTAINER_UNKNOWN
}

// nanos is CRI's form of a moment; 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func sandboxStatus(sb pod.Sandbox) *runtime.PodSandboxStatus {
	options := sb.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options == nil {
		options = &runtime.NamespaceOption{}
	}
	return &runtime.PodSandboxStatus{
		Id:             string(sb.ID),
		Metadata:       sb.Config.GetMetadata(),
		State:          sandboxState(sb.State),
		CreatedAt:      nanos(sb.CreatedAt),
		Network:        networkStatus(sb.Network.IPs),
		Linux:          &runtime.LinuxPodSandboxStatus{Namespaces: &runtime.Namespace{Options: options}},
		Labels:         sb.Config.GetLabels(),
		Annotations:    sb.Config.GetAnnotations(),
		RuntimeHandler: sb.Handler,
	}
}

// networkStatus has no address for a pod on the host's network: those are kubelet's
// to know.
func networkStatus(ips []string) *runtime.PodSandboxNetworkStatus {
	status := &runtime.PodSandboxNetworkStatus{}
	for i, ip := range ips {
		if i == 0 {
			status.Ip = ip
		} else {
			status.AdditionalIps = append(status.AdditionalIps, &runtime.PodIP{Ip: ip})
		}
	}
	return status
}

func sandboxItem(sb *pod.Sandbox) *runtime.PodSandbox {
	return &runtime.PodSandbox{
		Id:             string(sb.ID),
		Metadata:       sb.Config.GetMetadata(),
		State:          sandboxState(sb.State),
		CreatedAt:      nanos(sb.CreatedAt),
		Labels:         sb.Config.GetLabels(),
		Annotations:    sb.Config.GetAnnotations(),
		RuntimeHandler: sb.Handler,
	}
}

func containerItem(c *pod.Container) *runtime.Container {
	return &runtime.Container{
		Id:           string(c.ID),
		PodSandboxId: string(c.SandboxID),
		Metadata:     c.Config.GetMetadata(),
		Image:        imageSpec(*c),
		ImageRef:     imageRef(*c),
		ImageId:      c.Image.ID,
		State:        containerState(c.State),
		CreatedAt:    nanos(c.CreatedAt),
		Labels:       c.Config.GetLabels(),
		Annotations:  c.Config.GetAnnotations(),
	}
}

func containerStatus(c pod.Container) *runtime.ContainerStatus {
	status := &runtime.ContainerStatus{
		Id:          string(c.ID),
		Metadata:    c.Config.GetMetadata(),
		State:       containerState(c.State),
		CreatedAt:   nanos(c.CreatedAt),
		Image:       imageSpec(c),
		ImageRef:    imageRef(c),
		ImageId:     c.Image.ID,
		Labels:      c.Config.GetLabels(),
		Annotations: c.Config.GetAnnotations(),
		Mounts:      mounts(c),
		LogPath:     c.LogPath,
		User:        user(c.User),
		StopSignal:  stopSignal(c),
	}
	if c.Resources != nil {
		status.Resources = &runtime.ContainerResources{Linux: c.Resources.LinuxContainerResources}
	}
	if status.State != runtime.ContainerState_CONTAINER_CREATED {
		status.StartedAt = nanos(c.StartedAt)
	}
	if status.State == runtime.ContainerState_CONTAINER_EXITED {
		status.FinishedAt = nanos(c.FinishedAt)
		status.ExitCode, status.Reason, status.Message = exit(c.Exit)
	}
	return status
}

// exit says how a container ended. An end that nobody saw is -1, never 0.
func exit(e *pod.Exit) (code int32, reason, message string) {
	switch {
	case e == nil:
		return -1, "Unknown", "nothing is known about how the container ended"
	case e.Reason != "":
		return e.Code, e.Reason, e.Message
	case e.Code == 0:
		return 0, "Completed", e.Message
	}
	return e.Code, "Error", e.Message
}

// imageSpec shows the image as the pod's author wrote it.
func imageSpec(c pod.Container) *runtime.ImageSpec {
	asked := c.Config.GetImage()
	spec := &runtime.ImageSpec{
		Image:              asked.GetImage(),
		Annotations:        asked.GetAnnotations(),
		UserSpecifiedImage: asked.GetUserSpecifiedImage(),
		RuntimeHandler:     asked.GetRuntimeHandler(),
	}
	if c.Image.User != "" {
		spec.Image = c.Image.User
	}
	return spec
}

// imageRef is the repository digest, name@sha256:…, or the ID for images without one.
func imageRef(c pod.Container) string {
	if strings.Contains(c.Image.Digest, "@") {
		return c.Image.Digest
	}
	return c.Image.ID
}

// mounts are the request's; those of images also say which image it was.
func mounts(c pod.Container) []*runtime.Mount {
	asked := c.Config.GetMounts()
	all := make([]*runtime.Mount, len(asked))
	for i, m := range asked {
		all[i] = m
		if m.GetImage() == nil {
			continue
		}
		for _, done := range c.Mounts {
			if done.ContainerPath == m.GetContainerPath() && done.Image != "" {
				all[i] = proto.CloneOf(m)
				all[i].Image.ImageRef = done.Image
			}
		}
	}
	return all
}

func user(u pod.User) *runtime.ContainerUser {
	linux := &runtime.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}
	for _, g := range u.Groups {
		linux.SupplementalGroups = append(linux.SupplementalGroups, int64(g))
	}
	return &runtime.ContainerUser{Linux: linux}
}

// stopSignal is the signal that StopContainer sends first.
func stopSignal(c pod.Container) runtime.Signal {
	name := strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(c.StopSignal)
	if value, known := runtime.Signal_value["SIGNAL_"+name]; known {
		return runtime.Signal(value)
	}
	return c.Config.GetStopSignal()
}
