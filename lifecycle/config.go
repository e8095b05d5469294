package lifecycle

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/cdi"
	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Config is what an administrator may choose. The zero value works.
type Config struct {
	// StateDir holds records, bundles and sockets; on tmpfs. Set by the daemon's
	// --state, not in the file.
	StateDir string `toml:"-"`
	// MonitorPath and LaunchPath are the binaries; empty means beside the daemon's own.
	MonitorPath string `toml:"monitor_path"`
	LaunchPath  string `toml:"launch_path"`
	// ShimLaunchPath is the binary that speaks to shims; empty means vitrine-shim beside the daemon's own.
	ShimLaunchPath string `toml:"shim_launch_path"`
	// DefaultHandler serves requests that name no runtime handler; empty means "native".
	DefaultHandler string `toml:"default_handler"`
	// Handlers are OCI runtimes and containerd shims by handler name, beside the built-in "native".
	Handlers map[string]Handler `toml:"handlers"`
	// CreateTimeout bounds RunPodSandbox and CreateContainer, in seconds, independent
	// of the client's own deadline: a retry joins the attempt in progress. 0 means 240.
	CreateTimeoutSeconds int `toml:"create_timeout_seconds"`
	// SeccompProfile is a JSON file that replaces the built-in RuntimeDefault profile; empty keeps it.
	SeccompProfile string `toml:"seccomp_profile"`
	// ShmSize is the size of a pod's /dev/shm in bytes; 0 means 64 MiB.
	ShmSize int64 `toml:"shm_size"`
	// MonitorOOMScoreAdj protects monitors from the OOM killer; 0 means -999,
	// clamped to what the daemon may set.
	MonitorOOMScoreAdj int `toml:"monitor_oom_score_adj"`
	// MonitorCgroup is whose accounts and limits monitors are under, in a cgroup
	// "vitrine-monitors" below it: "pod" is each pod's own, anything else a slice or an
	// absolute path in cgroupfs. Launchers and what they need count there too; the OOM killer
	// leaves monitors alone as far as MonitorOOMScoreAdj says. Empty: the daemon's.
	MonitorCgroup string `toml:"monitor_cgroup"`
	// SpareMonitors is how many monitors, each with a launcher, are begun before a container
	// asks for one, which then starts some milliseconds sooner: as many that are made at once
	// gain by it. Each takes some MiB of memory. 0 means 1; -1 keeps none, and neither does a
	// MonitorCgroup of "pod".
	SpareMonitors int `toml:"spare_monitors"`
	// LibcontainerOnly has libcontainer make all containers of the native handler. Without
	// it, ordinary ones are made in a fraction of the time, and what is not ordinary is its.
	LibcontainerOnly bool `toml:"libcontainer_only"`
	// CriuPath is the program criu that checkpoints are made with, an absolute path that ends
	// in /criu; empty means the one in PATH. Where there is none, or it does not work on
	// this kernel, checkpoints are refused and all else works.
	CriuPath string `toml:"criu_path"`
	// HooksDir holds OCI hooks that every container gets, JSON in the format of
	// oci-hooks(5); empty means none.
	HooksDir string `toml:"hooks_dir"`
	// Defaults are wishes for all containers.
	Defaults host.ContainerDefaults `toml:"defaults"`
	// CDISpecDirs are directories of CDI specifications, the last one winning; empty
	// means /etc/cdi and /var/run/cdi. They are read when a container asks for a device.
	CDISpecDirs []string `toml:"cdi_spec_dirs"`
	// Annotations are patterns, as of path.Match, of pod annotations that are obeyed
	// (io.vitrine.log.*, io.vitrine.syscalls, .denials, .learn, .flight, .accept,
	// .seccomp.notifier; CRI-O's io.kubernetes.cri-o.Devices, .ShmSize and .umask,
	// devices.crio.io, shm-size.crio.io and umask.crio.io) and passed to the runtime;
	// empty means none.
	Annotations []string `toml:"annotations"`
	// AllowedDevices are host devices that a pod may ask for by the annotation
	// io.kubernetes.cri-o.Devices (devices.crio.io), which Annotations has to name too;
	// empty means none.
	AllowedDevices []string `toml:"allowed_devices"`
	// Log is what happens to the output of containers whose pods say nothing else.
	Log spec.LogOptions `toml:"log"`
	// Observe is what is noted of the system calls of containers whose pods say nothing else.
	Observe spec.ObserveOptions `toml:"observe"`
	// TelemetrySocket is where monitors report; set by the daemon.
	TelemetrySocket string `toml:"-"`
}

// native is the built-in handler: libcontainer in vitrine-launch.
const native = "native"

// Check refuses settings that cannot work on any host, as pod.ErrInvalid, naming the
// setting. What only the host can tell, New finds out.
func (c Config) Check() error {
	if err := c.Log.Check(); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if err := c.Observe.Check(); err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	if _, err := c.handler(c.DefaultHandler); err != nil {
		return fmt.Errorf("default_handler: %w", err)
	}
	if p := c.CriuPath; p != "" && (!filepath.IsAbs(p) || filepath.Base(p) != "criu") {
		return fmt.Errorf("%w: criu_path %q is no absolute path of a program named criu, the name by which runtimes look for it", pod.ErrInvalid, p)
	}
	for name, h := range c.Handlers {
		if err := h.check(); err != nil {
			return fmt.Errorf("handlers.%s: %w", name, err)
		}
	}
	if c.SpareMonitors > maxSpares {
		return fmt.Errorf("%w: spare_monitors is %d, at most %d", pod.ErrInvalid, c.SpareMonitors, maxSpares)
	}
	if p := c.MonitorCgroup; p != "" && p != forPods {
		if err := cgroup.CheckParent(p); err != nil {
			return fmt.Errorf("monitor_cgroup, which is empty, %q, a slice or an absolute path: %w", forPods, err)
		}
	}
	return nil
}

// host are the settings that are about the host.
func (c Config) host() host.Settings {
	return host.Settings{
		SeccompProfile: c.SeccompProfile, HooksDir: c.HooksDir, Defaults: c.Defaults,
		AllowedDevices: c.AllowedDevices, Annotations: c.Annotations, ShmSize: c.shmSize(),
	}
}

// handler finds a runtime handler by name; empty means the default one.
func (c Config) handler(name string) (Handler, error) {
	if name = cmp.Or(name, c.DefaultHandler, native); name == native {
		return Handler{}, nil
	}
	if h, ok := c.Handlers[name]; ok {
		return h, nil
	}
	return Handler{}, fmt.Errorf("%w: unknown runtime handler %q", pod.ErrInvalid, name)
}

func (c Config) createTimeout() time.Duration {
	return time.Duration(c.Effective().CreateTimeoutSeconds) * time.Second
}

// Effective is the configuration with its zero values replaced by what they mean.
func (c Config) Effective() Config {
	c.DefaultHandler = cmp.Or(c.DefaultHandler, native)
	c.CreateTimeoutSeconds = cmp.Or(c.CreateTimeoutSeconds, 240)
	c.MonitorOOMScoreAdj = cmp.Or(c.MonitorOOMScoreAdj, -999)
	c.SpareMonitors = cmp.Or(c.SpareMonitors, 1)
	c.ShmSize = c.shmSize()
	if len(c.CDISpecDirs) == 0 {
		c.CDISpecDirs = cdi.DefaultSpecDirs
	}
	return c
}

func (c Config) shmSize() int64 {
	if c.ShmSize > 0 {
		return c.ShmSize
	}
	return 64 << 20
}

// Features asks the kernel, and criu of the configuration; it changes nothing.
func Features(config Config) []host.Feature {
	return append(host.Features(), checkpoint.Feature(config.CriuPath))
}
