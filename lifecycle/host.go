package lifecycle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// host is what was found out once about the host and the daemon.
type host struct {
	facts              spec.HostFacts
	defaults           spec.Defaults
	hookFiles          []hookFile
	monitorOOMScoreAdj int
}

// inspectHost asks the kernel. A missing feature is a fact, not an error; the
// errors are those of the administrator's files.
func inspectHost(ctx context.Context, config Config, cgroups *cgroup.Cgroups) (host, error) {
	h := host{}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return h, fmt.Errorf("inspect host: %w", err)
	}
	bounding := statusHex(status, "CapBnd")
	h.facts = spec.HostFacts{
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
		h.facts.MinOOMScoreAdj = ownOOMScoreAdj()
		h.facts.HardLimits = hardLimits()
	}
	if h.facts.Devices, err = deviceNodes(); err != nil {
		return h, err
	}
	if config.SeccompProfile != "" {
		if h.defaults.Seccomp, err = readSeccomp(config.SeccompProfile); err != nil {
			return h, fmt.Errorf("seccomp_profile: %w", err)
		}
	}
	if err := spec.CheckWishable(config.AllowedDevices); err != nil {
		return h, fmt.Errorf("allowed_devices: %w", err)
	}
	if err := config.Defaults.apply(&h.defaults); err != nil {
		return h, fmt.Errorf("defaults: %w", err)
	}
	if h.facts.AppArmor && h.defaults.AppArmorProfile == "" {
		if err := loadApparmor(ctx, defaultApparmor); err != nil {
			warn(ctx, "containers without an AppArmor profile of their own run without one", err)
		} else {
			h.defaults.AppArmorProfile = defaultApparmor
		}
	}
	if h.hookFiles, err = readHooks(config.HooksDir); err != nil {
		return h, fmt.Errorf("hooks_dir: %w", err)
	}
	h.defaults.ShmSize, h.defaults.Annotations = config.shmSize(), config.Annotations
	h.monitorOOMScoreAdj = max(cmp.Or(config.MonitorOOMScoreAdj, -999), h.facts.MinOOMScoreAdj)
	return h, nil
}

func (h host) warn(message string, args ...any) { slog.Warn(message, args...) }

// podCgroup is kubelet's cgroup_parent, or one of our own for clients that name none.
func (h host) podCgroup(sb pod.Sandbox) string {
	return cmp.Or(sb.Config.GetLinux().GetCgroupParent(), "/vitrine/"+string(sb.ID))
}

// rootCause strips the path that os puts before the cause, for messages that name
// the path themselves.
func rootCause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func statusHex(status []byte, key string) uint64 {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), key+":"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return n
		}
	}
	return 0
}

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
