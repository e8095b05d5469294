package lifecycle

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Handler is one external OCI runtime or one containerd shim; exactly one of Path and
// Shim is set.
type Handler struct {
	// Path is the binary of an OCI runtime.
	Path string `toml:"path"`
	// Args go before the sub-command of an OCI runtime.
	Args []string `toml:"args"`
	// Shim is the absolute path of a containerd shim v2.
	Shim string `toml:"shim"`
	// Binary is the OCI runtime that containerd-shim-runc-v2 runs; empty is its own choice.
	Binary string `toml:"binary"`
	// ConfigPath is the configuration file that other shims are told of; empty is their own choice.
	ConfigPath string `toml:"config_path"`
	// Annotations are more patterns of pod annotations that are passed to this runtime;
	// CRI-O's for devices, shm and umask are obeyed for its pods.
	Annotations []string `toml:"annotations"`
	// PrivilegedWithoutHostDevices keeps the host's devices out of this runtime's
	// privileged containers, as one that starts virtual machines needs it.
	PrivilegedWithoutHostDevices bool `toml:"privileged_without_host_devices"`
}

// check refuses what contradicts itself.
func (h Handler) check() error {
	switch {
	case (h.Path == "") == (h.Shim == ""):
		return fmt.Errorf("%w: want path of an OCI runtime or shim of a containerd shim, one of the two", pod.ErrInvalid)
	case h.Shim == "" && (h.Binary != "" || h.ConfigPath != ""):
		return fmt.Errorf("%w: binary and config_path are for shims", pod.ErrInvalid)
	case h.Shim != "" && len(h.Args) > 0:
		return fmt.Errorf("%w: args are for OCI runtimes", pod.ErrInvalid)
	case h.Shim != "" && !strings.HasPrefix(h.Shim, "/"):
		return fmt.Errorf("%w: shim %q is no absolute path", pod.ErrInvalid, h.Shim)
	}
	return nil
}

// installed refuses a shim that cannot be executed. An OCI runtime says so itself.
func (h Handler) installed(name string) error {
	if h.Shim == "" {
		return nil
	}
	if err := unix.Access(h.Shim, unix.X_OK); err != nil {
		return fmt.Errorf("%w: runtime handler %q: shim %s: %w", pod.ErrInvalid, name, h.Shim, err)
	}
	return nil
}

// external reports whether somebody else than libcontainer runs the containers.
func (h Handler) external() bool { return h.binary() != "" }

// binary is what is executed; empty for the native handler.
func (h Handler) binary() string { return cmp.Or(h.Path, h.Shim) }

// defaults are the wishes for all containers with those for this handler's.
func (h Handler) defaults(d spec.Defaults) spec.Defaults {
	d.Annotations = slices.Concat(d.Annotations, h.Annotations)
	d.PrivilegedWithoutHostDevices = d.PrivilegedWithoutHostDevices || h.PrivilegedWithoutHostDevices
	return d
}

// wishes are what the annotations of the pod, and of one of its containers unless that is
// nil, ask for, as far as the administrator allows it for all handlers or for the pod's.
func (m *Manager) wishes(sb pod.Sandbox, c *runtime.ContainerConfig) (spec.Wishes, error) {
	handler, err := m.config.handler(sb.Handler)
	if err != nil {
		return spec.Wishes{}, err
	}
	return spec.Wish(handler.defaults(m.host.Defaults).Annotations, m.config.AllowedDevices, c.GetMetadata().GetName(), sb.Config.GetAnnotations(), c.GetAnnotations())
}

// runtime is the part of the handler that goes into a launcher's request.
func (m *Manager) runtime(h Handler) launch.Runtime {
	return launch.Runtime{
		Path: h.binary(), Args: h.Args, Binary: h.Binary, ConfigPath: h.ConfigPath,
		SystemdCgroup: m.cgroups != nil && m.cgroups.Driver() == "systemd",
	}
}

// launcher is the program that takes the handler's requests.
func (c Config) launcher(h Handler) string {
	if h.Shim != "" {
		return c.ShimLaunchPath
	}
	return c.LaunchPath
}

// initPID is the container's own PID 1 on this host. The monitor's child is that, or for a
// shim its keeper; then it is what the shim told, or the keeper if that is gone already.
func (m *Manager) initPID(h Handler, id pod.ID, child int) int {
	if h.Shim == "" {
		return child
	}
	raw, err := os.ReadFile(launch.TaskPID(m.store.ContainerDir(id), string(id)))
	if err != nil {
		return child
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil || pid <= 0 {
		return child
	}
	if _, err := proc.StartTime(pid); err != nil {
		return child
	}
	return pid
}

// forShim makes each container one of its own for the shim: there is no process that
// stands for the pod, to which the annotations would join it (docs/decisions/0062).
func (p *plan) forShim() {
	delete(p.spec.Annotations, "io.kubernetes.cri.container-type")
	delete(p.spec.Annotations, "io.kubernetes.cri.sandbox-id")
	if p.spec.Annotations == nil {
		p.spec.Annotations = map[string]string{}
	}
	p.spec.Annotations["io.containerd.runc.v2.group"] = string(p.container.ID)
}

// hostPidNS names the daemon's own pid namespace.
func hostPidNS() string {
	name, _ := os.Readlink("/proc/self/ns/pid")
	return name
}
