package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// devices lists the device nodes and what the device cgroup allows. Everybody gets
// the usual harmless ones from the runtime itself.
func (b *builder) devices() error {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	var nodes []specs.LinuxDevice
	if b.privileged {
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		if !b.Defaults.PrivilegedWithoutHostDevices {
			nodes = slices.DeleteFunc(slices.Clone(b.Host.Devices), func(d specs.LinuxDevice) bool { return !showable(d.Path) })
		}
	}
	for i, d := range slices.Concat(b.Defaults.Devices, b.Devices) {
		if err := checkDevice(d); err != nil {
			return err
		}
		if b.Defaults.DeviceOwnership && i >= len(b.Defaults.Devices) {
			uid, gid := b.User.UID, b.User.GID
			d.UID, d.GID = &uid, &gid
		}
		nodes = slices.DeleteFunc(nodes, func(n specs.LinuxDevice) bool { return n.Path == d.Path })
		nodes = append(nodes, d.LinuxDevice)
		if !b.privileged && d.Type != "p" {
			major, minor, kind := d.Major, d.Minor, d.Type
			if kind == "u" {
				kind = "c"
			}
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: d.Access})
		}
	}
	b.spec.Linux.Devices = nodes
	b.spec.Linux.Resources = &specs.LinuxResources{Devices: rules}
	return nil
}

// showable reports whether a host device may be seen at the same path in a
// privileged container: not those that the container has its own of.
func showable(p string) bool {
	if !strings.HasPrefix(p, "/dev/") {
		return false
	}
	for _, own := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev"} {
		if p == own || strings.HasPrefix(p, own+"/") {
			return false
		}
	}
	return true
}

func checkDevice(d Device) error {
	if _, err := mountTarget(d.Path); err != nil {
		return invalid("devices: %.200q is not an absolute path", d.Path)
	}
	if d.Type != "c" && d.Type != "b" && d.Type != "u" && d.Type != "p" {
		return invalid("devices: %s has unknown type %.20q", d.Path, d.Type)
	}
	return checkDeviceAccess(d.Path, d.Access)
}

// checkDeviceAccess accepts one to three of the letters r, w and m, each once.
func checkDeviceAccess(path, access string) error {
	if access == "" || len(access) > 3 || strings.Trim(access, "rwm") != "" || hasTwice(access) {
		return invalid("devices.permissions: %.20q of %.200s is not made of r, w and m", access, path)
	}
	return nil
}

func hasTwice(s string) bool {
	for i := range len(s) {
		if strings.IndexByte(s[i+1:], s[i]) >= 0 {
			return true
		}
	}
	return false
}
