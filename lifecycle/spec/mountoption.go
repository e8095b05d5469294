package spec

import "slices"

// mountOptionGroups are the options that CRI's mount_options may have; those of one group
// exclude each other. Options that loosen what the host's administrator mounted (exec, suid,
// dev) and those with a field of their own (ro, rw, propagation) are not in the list.
var mountOptionGroups = [][]string{
	{"noexec", "rnoexec"},
	{"nosuid", "rnosuid"},
	{"nodev", "rnodev"},
	{"nosymfollow", "rnosymfollow"},
	{"nodiratime", "rnodiratime"},
	{"noatime", "relatime", "strictatime", "rnoatime", "rrelatime", "rstrictatime"},
}

// mountOptions checks the request's additional options; of each group at most one
// may be given.
func mountOptions(options []string) ([]string, error) {
	taken := map[int]string{}
	for i, o := range options {
		group := slices.IndexFunc(mountOptionGroups, func(g []string) bool { return slices.Contains(g, o) })
		if group < 0 {
			return nil, invalid("mount_options[%d]: %.80q is not an option that can be asked for", i, o)
		}
		if other, ok := taken[group]; ok && other != o {
			return nil, invalid("mount_options[%d]: %s contradicts %s", i, o, other)
		}
		taken[group] = o
	}
	return slices.Clone(options), nil
}
