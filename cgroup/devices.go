package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
)

// DeviceName is a block device's name, such as "/dev/sda1", or "major:minor" for one
// that has none, as the numbers of overlay and btrfs have. It asks sysfs each time,
// because numbers are used again.
func DeviceName(major, minor uint64) string {
	name := fmt.Sprintf("%d:%d", major, minor)
	if target, err := os.Readlink("/sys/dev/block/" + name); err == nil {
		return "/dev/" + filepath.Base(target)
	}
	return name
}
