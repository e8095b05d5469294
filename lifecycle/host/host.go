package host

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
)

// Host is what was found out once about the host and the daemon, with what the administrator
// wants of all containers. It does not change.
type Host struct {
	Facts    spec.HostFacts
	Defaults spec.Defaults
	hooks    []hookFile
}

// Settings are the administrator's, as far as they are about the host.
type Settings struct {
	// SeccompProfile is a JSON file in the place of the built-in RuntimeDefault; empty keeps that.
	SeccompProfile string
	// HooksDir holds OCI hooks for all containers, see oci-hooks(5); empty means none.
	HooksDir string
	// Defaults are looked up and checked; the zero value changes nothing.
	Defaults ContainerDefaults
	// AllowedDevices are host devices that pods may ask for by annotation; they are checked.
	AllowedDevices []string
	// Annotations and ShmSize (bytes) are passed on as defaults of the specification.
	Annotations []string
	ShmSize     int64
}

// Inspect asks the kernel. A missing feature is a fact, not an error; the
// errors are those of the administrator's files. Where there is AppArmor it loads the
// profile that containers without another one get.
func Inspect(ctx context.Context, settings Settings, cgroups *cgroup.Cgroups) (Host, error) {
	h := Host{}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return h, fmt.Errorf("inspect host: %w", err)
	}
	bounding := proc.Mask(status, "CapBnd")
	h.Facts = spec.HostFacts{
		Capabilities:   spec.CapabilityNames(bounding),
		CgroupV2:       cgroups.Mode() == cgroup.V2,
		SwapAccounting: cgroups.SwapAccounting(),
		HugepageSizes:  cgroups.HugepageSizes(),
		Seccomp:        bytes.Contains(status, []byte("\nSeccomp:")),
		AppArmor:       fileContains("/sys/module/apparmor/parameters/enabled", "Y"),
		Kernel:         kernelVersion(),
		MinOOMScoreAdj: -1000,
	}
	if bounding&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		h.Facts.MinOOMScoreAdj = ownOOMScoreAdj()
		h.Facts.HardLimits = hardLimits()
	}
	if h.Facts.Devices, err = deviceNodes(); err != nil {
		return h, err
	}
	if settings.SeccompProfile != "" {
		if h.Defaults.Seccomp, err = readSeccomp(settings.SeccompProfile); err != nil {
			return h, fmt.Errorf("seccomp_profile: %w", err)
		}
	}
	if err := spec.CheckWishable(settings.AllowedDevices); err != nil {
		return h, fmt.Errorf("allowed_devices: %w", err)
	}
	if err := settings.Defaults.apply(&h.Defaults); err != nil {
		return h, fmt.Errorf("defaults: %w", err)
	}
	if h.Facts.AppArmor && h.Defaults.AppArmorProfile == "" {
		if err := loadApparmor(ctx, defaultApparmor); err != nil {
			slog.WarnContext(ctx, "containers without an AppArmor profile of their own run without one", "error", err)
		} else {
			h.Defaults.AppArmorProfile = defaultApparmor
		}
	}
	if h.hooks, err = readHooks(settings.HooksDir); err != nil {
		return h, fmt.Errorf("hooks_dir: %w", err)
	}
	h.Defaults.ShmSize, h.Defaults.Annotations = settings.ShmSize, settings.Annotations
	return h, nil
}

// Warn logs what was changed in a request because this host or daemon cannot do more.
func (h Host) Warn(message string, args ...any) { slog.Warn(message, args...) }

func ownOOMScoreAdj() int {
	raw, _ := os.ReadFile("/proc/self/oom_score_adj")
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}

func fileContains(path, text string) bool {
	raw, err := os.ReadFile(path)
	return err == nil && strings.Contains(string(raw), text)
}

func kernelVersion() spec.Kernel {
	var uts unix.Utsname
	var k spec.Kernel
	if unix.Uname(&uts) == nil {
		fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &k.Major, &k.Minor)
	}
	return k
}

func hardLimits() map[string]uint64 {
	limits := map[string]uint64{}
	for name, number := range map[string]int{
		"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_CORE": unix.RLIMIT_CORE,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_AS": unix.RLIMIT_AS,
		"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE,
		"RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
		"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	} {
		var l unix.Rlimit
		if unix.Getrlimit(number, &l) == nil {
			limits[name] = l.Max
		}
	}
	return limits
}
