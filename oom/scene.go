package oom

import (
	"fmt"
	"strings"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/pod"
)

// scene turns what was seen at a kill in the container of the cgroup self into what its
// record keeps; nil if nothing was.
func scene(k *ebpf.OOMKill, self, podCgroup uint64) *pod.Scene {
	if k.Scene == nil {
		return nil
	}
	s := &pod.Scene{Processes: k.Scene.Processes, Split: split(k)}
	if k.Scene.Cut {
		s.LookedAt = k.Scene.Looked
	}
	for _, p := range k.Scene.Largest {
		s.Largest = append(s.Largest, pod.HeldBy{
			Culprit: pod.Culprit{PID: p.TGID, ContainerPID: p.ContainerPID, Command: p.Comm, UID: p.UID},
			Anon:    p.Anon, File: p.File, Shmem: p.Shmem, Swapped: p.Swapped, ScoreAdj: p.ScoreAdj, Cgroup: p.Cgroup})
	}
	name, above := LevelBelow, false
	for _, l := range k.Scene.Levels {
		switch {
		case l.Cgroup == self:
			name, above = LevelContainer, true
		case l.Cgroup == podCgroup && podCgroup != 0:
			name = LevelPod
		case above && (name == LevelPod || name == LevelNode):
			name = LevelNode
		case above:
			name = LevelUnknown
		}
		s.Levels = append(s.Levels, pod.LevelMemory{Level: string(name), Cgroup: l.Cgroup, Usage: l.Usage, Limit: l.Limit, SwapUsage: l.SwapUsage, SwapLimit: l.SwapLimit})
	}
	return s
}

// split is nil unless the parts add up to what was charged: then the kernel had not added
// up lately, or keeps its figures elsewhere than we think.
func split(k *ebpf.OOMKill) *pod.MemorySplit {
	s := k.Scene.Stats
	if s == nil || k.Level == ebpf.Global {
		return nil
	}
	sum := s.Anon + s.File + s.Shmem + s.Kernel + s.Sock
	if max(sum, s.Usage)-min(sum, s.Usage) > s.Usage/20+uncounted || s.Slab > s.Kernel+uncounted {
		return nil
	}
	return &pod.MemorySplit{Anon: s.Anon, File: s.File, Shmem: s.Shmem, Kernel: s.Kernel, Slab: s.Slab, Sock: s.Sock}
}

// uncounted is by how much parts and usage may differ at any size: a usage is charged in
// batches, and pages are charged before it is said what for.
const uncounted = 1 << 20

// told is the scene as the end of a sentence, or "". Names of processes outside the pod
// are not told: a pod's status is read by people whom the node's other pods do not concern.
func told(r Result, k *ebpf.OOMKill) string {
	if k.Scene == nil {
		return ""
	}
	var s strings.Builder
	whose := map[Level]string{LevelBelow: "of its", LevelContainer: "of the container's", LevelPod: "of the pod's"}[r.Level]
	if list := k.Scene.Largest; whose != "" && len(list) > 1 {
		fmt.Fprintf(&s, "; %s %d processes the largest held", whose, k.Scene.Processes)
		if k.Scene.Cut {
			s.WriteString(", as far as was looked,")
		}
		for i, p := range list {
			if i > 0 {
				s.WriteString(",")
			}
			pid := p.ContainerPID
			if r.Level == LevelPod {
				pid = p.TGID
			}
			fmt.Fprintf(&s, " %s (%q, pid %d)", size(p.Held()), p.Comm, pid)
		}
	}
	if p := split(k); p != nil && whose != "" {
		parts := []string{size(p.Anon) + " anonymous"}
		for _, part := range []struct {
			n    uint64
			what string
		}{{p.Shmem, "shared or in a tmpfs"}, {p.File, "of files"}, {p.Kernel, "the kernel's"}, {p.Sock, "of sockets"}} {
			if part.n > 0 {
				parts = append(parts, size(part.n)+" "+part.what)
			}
		}
		fmt.Fprintf(&s, "; the %s in use were %s", size(k.Scene.Stats.Usage), strings.Join(parts, ", "))
	}
	return s.String()
}
