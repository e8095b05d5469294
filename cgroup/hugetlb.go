package cgroup

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// HugepageSizes lists the sizes whose use can be limited, for example 2MB. It is
// empty where no hugetlb controller is mounted; the one of a hybrid host's v2
// hierarchy does not count, because no container is put into that.
func (c *Cgroups) HugepageSizes() []string {
	if !c.hasController("hugetlb") {
		return nil
	}
	return slices.Clone(hostHugepageSizes())
}

// hasController reports whether containers' cgroups have the controller's files.
func (c *Cgroups) hasController(name string) bool {
	if c.Mode() != V2 {
		return c.mounts.v1[name] != ""
	}
	list, err := readFile(c.mounts.v2, "cgroup.controllers")
	return err == nil && slices.Contains(strings.Fields(list), name)
}

// hostHugepageSizes are the kernel's, as its cgroup files call them.
var hostHugepageSizes = sync.OnceValue(func() []string {
	entries, _ := os.ReadDir("/sys/kernel/mm/hugepages") // absent without huge pages
	var sizes []string
	for _, e := range entries {
		number, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if kib, err := strconv.ParseUint(number, 10, 64); ok && err == nil {
			sizes = append(sizes, sizeName(kib))
		}
	}
	return sizes
})

// sizeName is the kernel's rule: whole GB, MB or KB.
func sizeName(kib uint64) string {
	switch {
	case kib >= 1<<20:
		return strconv.FormatUint(kib>>20, 10) + "GB"
	case kib >= 1<<10:
		return strconv.FormatUint(kib>>10, 10) + "MB"
	}
	return strconv.FormatUint(kib, 10) + "KB"
}

// SwapAccounting reports whether the memory controller limits swap.
func (c *Cgroups) SwapAccounting() bool {
	if c.Mode() != V2 {
		dir := c.mounts.v1["memory"]
		return dir != "" && exists(dir, "memory.memsw.limit_in_bytes")
	}
	// The root has no limits; any cgroup below it shows the files.
	entries, _ := os.ReadDir(c.mounts.v2)
	for _, e := range entries {
		if dir := c.mounts.v2 + "/" + e.Name(); e.IsDir() && exists(dir, "memory.current") {
			return exists(dir, "memory.swap.max")
		}
	}
	return exists("/proc", "swaps")
}

func exists(dir, name string) bool {
	_, err := os.Lstat(dir + "/" + name)
	return err == nil
}
