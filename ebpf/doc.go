// Package ebpf watches containers from inside the kernel: who was killed by the OOM
// killer and by which limit, who sent a signal that ends a process, what was executed
// and what exited.
//
// The programs (bpf/) are loaded once by the daemon and pinned with their maps and links
// under Config.PinDir, so they go on while the daemon is away and its next life finds
// them. A container is known by the kernfs id of its memory cgroup (cgroup.ID); Track
// must come before its first instruction. The last record of each kind also lies in a
// pinned hash, which is exact when the ring buffer overflowed or nobody read it.
//
// The package never changes what a process may do, and never names pods. Without BTF or
// rights Open says so (ErrUnavailable), and callers use the cgroup's own counters.
package ebpf

//go:generate bpf/generate
//go:generate go run ./numbers
