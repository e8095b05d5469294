package pod

// Scene is how it was at an OOM kill, before the victim had given anything back. Sizes are bytes.
type Scene struct {
	// Largest are at most five processes, the largest first, of all below the level whose
	// limit ran out; of the node's if none did. Processes counts these.
	Largest   []HeldBy `json:"largest,omitempty"`
	Processes int      `json:"processes"`
	// LookedAt is how many of the node's processes were looked at where there are more; a
	// larger one may be among those. 0: all.
	LookedAt int `json:"lookedAt,omitempty"`
	// Levels are the victim's cgroup and those above it, up to what kubelet's pods lie in.
	Levels []LevelMemory `json:"levels,omitempty"`
	// Split is nil where the kernel's figures did not fit the usage of that moment, and if
	// no limit was hit.
	Split *MemorySplit `json:"split,omitempty"`
}

// HeldBy is a process and what it held.
type HeldBy struct {
	Culprit
	// Container is the id of the one that the process is in; empty if that is not known or
	// it is in none.
	Container ID     `json:"container,omitempty"`
	Anon      uint64 `json:"anon"`
	File      uint64 `json:"file"`
	Shmem     uint64 `json:"shmem"`
	Swapped   uint64 `json:"swapped,omitempty"`
	ScoreAdj  int    `json:"scoreAdj,omitempty"`
	// Cgroup is the kernel's id of its memory cgroup.
	Cgroup uint64 `json:"cgroup"`
}

// Held is what the process held in memory and swap, in bytes.
func (h HeldBy) Held() uint64 { return h.Anon + h.File + h.Shmem + h.Swapped }

// LevelMemory is what a cgroup had and may have; a limit of 0 is none.
type LevelMemory struct {
	// Level is below, container, pod or node, as in OOMKill; empty for unknown.
	Level  string `json:"level,omitempty"`
	Cgroup uint64 `json:"cgroup"`
	Usage  uint64 `json:"usage"`
	Limit  uint64 `json:"limit,omitempty"`
	// Swap is memory and swap together in cgroup v1, swap alone in v2.
	SwapUsage uint64 `json:"swapUsage,omitempty"`
	SwapLimit uint64 `json:"swapLimit,omitempty"`
}

// MemorySplit is what the memory of the level whose limit ran out was.
type MemorySplit struct {
	// File is without Shmem; Kernel is with Slab.
	Anon   uint64 `json:"anon"`
	File   uint64 `json:"file"`
	Shmem  uint64 `json:"shmem"`
	Kernel uint64 `json:"kernel"`
	Slab   uint64 `json:"slab"`
	Sock   uint64 `json:"sock,omitempty"`
}
