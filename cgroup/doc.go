// Package cgroup owns the differences between cgroup v1, hybrid and v2 and between
// the cgroupfs and systemd drivers: paths, statistics, updates, removal. It knows
// paths and ids, never pods; of the pod room it uses the sentinel errors.
//
// A path here is what /proc/PID/cgroup shows and CRI's cgroup_parent is: absolute,
// below the root of each hierarchy. Where those roots are mounted is found out once
// from /proc/self/mountinfo. A cgroup may go away at any moment; whoever then reads
// it gets pod.ErrNotFound.
//
// Containers' cgroups are made by the runtime (libcontainer, or systemd at its
// request). This package makes those of pods that kubelet did not make, and removes
// what is left of either.
package cgroup
