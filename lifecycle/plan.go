package lifecycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle/cdi"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// plan is what CreateContainer finds out before it acts: resolve looks things up,
// describe builds the specification, write puts it on disk.
type plan struct {
	manager   *Manager
	sandbox   pod.Sandbox
	container *pod.Container
	image     image.Image
	restore   *restoring // nil for a container that begins anew

	handler Handler
	devices []string // names of the Container Device Interface
	log     spec.LogOptions
	notify  uint8 // wire.NotifyLog, …: what the monitor is asked
	input   spec.Input
	spec    *specs.Spec
}

// resolve looks up what does not need the root file system: handler, mount
// sources, seccomp profile, devices, paths. Nothing exists yet that a failure
// would leave behind, but for the log's directories, which are kubelet's to remove.
func (p *plan) resolve(ctx context.Context) (err error) {
	m, sb, c := p.manager, p.sandbox, p.container
	if p.handler, err = m.config.handler(c.Handler); err != nil {
		return err
	}
	if p.restore != nil {
		if err := p.sameImage(); err != nil {
			return err
		}
	}
	if p.devices, err = cdi.Requested(c.Config.ContainerConfig); err != nil {
		return err
	}
	c.Image = pod.ImageRef{ID: p.image.ID, User: c.Config.GetImage().GetUserSpecifiedImage(), Digest: repoDigest(p.image)}
	if c.LogPath, err = logPath(sb.Config.GetLogDirectory(), c.Config.GetLogPath()); err != nil {
		return err
	}
	if err := makeLogPlace(sb.Config.GetLogDirectory(), c.LogPath); err != nil {
		return err
	}
	if _, err = m.observeOptions(sb, *c); err != nil {
		return err
	}
	if p.notify, err = m.notifier(sb, *c); err != nil {
		return err
	}
	if p.log, err = m.logOptions(sb, *c); err != nil {
		return err
	}
	if c.StopSignal, err = stopSignal(ctx, c.Config.ContainerConfig, p.image.Config); err != nil {
		return err
	}
	if res := c.Config.GetLinux().GetResources(); res != nil {
		c.Resources = &pod.Resources{LinuxContainerResources: res}
	}
	var specPath string
	specPath, c.Cgroup = m.cgroups.ContainerPath(sb.CgroupParent, string(c.ID))
	p.input = spec.Input{
		Container: c.Config.ContainerConfig, Sandbox: sb.Config.PodSandboxConfig, SandboxID: sb.ID,
		Image: p.image.Config, Namespaces: sb.Namespaces, CgroupsPath: specPath,
		Host: m.host.Facts, Defaults: p.handler.defaults(m.host.Defaults), Warn: m.host.Warn,
		ProcessLabel: sb.ProcessLabel, MountLabel: sb.MountLabel,
	}
	if asksRecursive(c.Config.GetMounts()) {
		p.input.Host.RecursiveReadOnly = m.features(c.Handler).RecursiveReadOnlyMounts
	}
	dir := m.store.SandboxDir(sb.ID)
	p.input.Hostname, p.input.ResolvConf = filepath.Join(dir, hostnameFile), filepath.Join(dir, resolvFile)
	p.input.HostsFile = filepath.Join(dir, hostsFile)
	if ownIPC(sb) {
		p.input.Shm = filepath.Join(dir, shmDir)
	}
	if p.input.Sources, c.Mounts, err = host.MountSources(c.Config.GetMounts()); err != nil {
		return err
	}
	wishes, err := m.wishes(sb, c.Config.ContainerConfig)
	if err != nil {
		return err
	}
	p.input.Defaults.Umask = wishes.Umask
	if p.input.Devices, err = host.Devices(slices.Concat(wishes.Devices, c.Config.GetDevices())); err != nil {
		return err
	}
	if p.input.PidNS, err = m.targetPidNS(sb, c.Config.ContainerConfig); err != nil {
		return err
	}
	p.input.Seccomp, err = host.LocalhostSeccomp(c.Config.ContainerConfig)
	return err
}

// asksRecursive says whether a mount is to be read-only with all below it.
func asksRecursive(mounts []*runtime.Mount) bool {
	return slices.ContainsFunc(mounts, (*runtime.Mount).GetRecursiveReadOnly)
}

// repoDigest is the image's name@sha256:…, empty without one. Any of them names the
// image; the one that was pulled is preferred.
func repoDigest(img image.Image) (name string) {
	for _, name = range img.RepoDigests {
		if strings.HasSuffix(name, img.Digest) && img.Digest != "" {
			break
		}
	}
	return name
}

// logPath joins the pod's log directory and the container's relative path, which
// must stay inside (CVE-2025-0750).
func logPath(dir, name string) (string, error) {
	if dir == "" || name == "" {
		return "", nil
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%w: log_path %q leaves the log directory", pod.ErrInvalid, name)
	}
	if filepath.Clean(name) == "." || strings.HasSuffix(name, "/") {
		return "", fmt.Errorf("%w: log_path %q is no file's", pod.ErrInvalid, name)
	}
	return filepath.Join(dir, name), nil
}

// stopSignal is the request's, else the image's. An image's that nobody knows is
// told and replaced; a pod's author can be told directly.
func stopSignal(ctx context.Context, config *runtime.ContainerConfig, image v1.Image) (string, error) {
	name, _, err := spec.StopSignal(config, image)
	if err != nil && config.GetStopSignal() == runtime.Signal_SIGNAL_RUNTIME_DEFAULT {
		warn(ctx, "the image's stop signal is unknown; SIGTERM will be sent", err)
		return "SIGTERM", nil
	}
	return name, err
}

// targetPidNS is the pid namespace of the container that the request targets.
func (m *Manager) targetPidNS(sb pod.Sandbox, config *runtime.ContainerConfig) (string, error) {
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetPid() != runtime.NamespaceMode_TARGET {
		return "", nil
	}
	target, err := m.Container(options.GetTargetId())
	if err != nil {
		return "", fmt.Errorf("%w: target_id: %w", pod.ErrInvalid, err)
	}
	if target.SandboxID != sb.ID {
		return "", fmt.Errorf("%w: target_id %s is a container of another pod", pod.ErrInvalid, target.ID.Short())
	}
	if target.State != pod.Running || !proc.Alive(target.Init) {
		return "", fmt.Errorf("target container %s: %w: it is %s", target.ID.Short(), pod.ErrState, target.State)
	}
	path := fmt.Sprintf("/proc/%d/ns/pid", target.Init.PID)
	if handler, err := m.config.handler(target.Handler); err == nil && handler.Shim != "" {
		if theirs, err := os.Readlink(path); err != nil || theirs == hostPidNS() {
			return "", fmt.Errorf("target container %s: %w: its shim shows no pid namespace on this host", target.ID.Short(), pod.ErrUnsupported)
		}
	}
	return path, nil
}
