package host

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
)

// ContainerDefaults are an administrator's wishes for all containers. The zero value
// changes nothing.
type ContainerDefaults struct {
	// Capabilities are those of a container that neither adds nor drops, with or
	// without "CAP_"; empty means the usual nine.
	Capabilities []string `toml:"capabilities"`
	// Env is under the image's environment, NAME=VALUE.
	Env []string `toml:"env"`
	// Ulimits are resource limits, NAME=SOFT:HARD with NAME as in limits.conf(5), for
	// example nofile=1024:4096; -1 means none. Empty: the daemon's are inherited.
	Ulimits []string `toml:"ulimits"`
	// AppArmorProfile is the loaded profile that RuntimeDefault means; "unconfined" means
	// none, empty the one that the daemon loads itself, vitrine-default.
	AppArmorProfile string `toml:"apparmor_profile"`
	// PidsLimit bounds the processes of each container; 0 means no bound.
	PidsLimit int64 `toml:"pids_limit"`
	// MinMemory is the lowest memory limit that is accepted, in bytes; 0 means 12 MiB.
	MinMemory int64 `toml:"min_memory"`
	// Mounts are shown in every container, HOSTPATH:CONTAINERPATH or with ":rw" behind;
	// read-only without. A mount of the request at the same path replaces one.
	Mounts []string `toml:"mounts"`
	// Devices are given to every container, HOSTPATH[:CONTAINERPATH[:ACCESS]] with ACCESS
	// made of r, w and m; empty means rwm. They are looked up when the daemon starts.
	Devices []string `toml:"devices"`
	// PrivilegedWithoutHostDevices keeps the host's devices out of privileged containers.
	PrivilegedWithoutHostDevices bool `toml:"privileged_without_host_devices"`
	// DeviceOwnership gives the devices of a request to the container's user.
	DeviceOwnership bool `toml:"device_ownership"`
}

// apply checks the wishes, so that a misspelt one ends the daemon's start and not
// every container's, and lays them over to.
func (d ContainerDefaults) apply(to *spec.Defaults) error {
	known := spec.CapabilityNames(^uint64(0))
	for _, name := range d.Capabilities {
		if !slices.Contains(known, "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_")) {
			return fmt.Errorf("capabilities: %q is none", name)
		}
	}
	for _, pair := range d.Env {
		if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
			return fmt.Errorf("env: %q is not NAME=VALUE", pair)
		}
	}
	var err error
	if to.Rlimits, err = ulimits(d.Ulimits); err != nil {
		return fmt.Errorf("ulimits: %w", err)
	}
	if to.Mounts, err = defaultMounts(d.Mounts); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if to.Devices, err = defaultDevices(d.Devices); err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	if len(d.Capabilities) > 0 {
		to.Capabilities = d.Capabilities
	}
	to.Env, to.AppArmorProfile, to.PidsLimit, to.MinMemory = d.Env, d.AppArmorProfile, d.PidsLimit, d.MinMemory
	to.PrivilegedWithoutHostDevices, to.DeviceOwnership = d.PrivilegedWithoutHostDevices, d.DeviceOwnership
	return nil
}

// ulimits parses NAME=SOFT:HARD.
func ulimits(list []string) (limits []specs.POSIXRlimit, err error) {
	number := func(text string) (uint64, error) {
		if text == "-1" || text == "unlimited" {
			return ^uint64(0), nil
		}
		return strconv.ParseUint(text, 10, 64)
	}
	names := hardLimits()
	for _, text := range list {
		name, rest, ok := strings.Cut(text, "=")
		low, high, both := strings.Cut(rest, ":")
		if !both {
			high = low
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name)}
		soft, err := number(low)
		hard, err2 := number(high)
		if _, exists := names[l.Type]; !ok || !exists || err != nil || err2 != nil || soft > hard {
			return nil, fmt.Errorf("%q is not NAME=SOFT:HARD of a resource limit", text)
		}
		l.Soft, l.Hard = soft, hard
		limits = append(limits, l)
	}
	return limits, nil
}
