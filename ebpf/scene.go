package ebpf

import (
	"encoding/binary"
	"os"
	"slices"
	"unsafe"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Scene is how it was at an OOM kill, before the victim had given anything back: in the
// cgroup of the level that ran out, or on the node if none did. A group kill has one scene.
// Sizes are bytes.
type Scene struct {
	// Largest are at most five processes of the level, the largest first, by all that they
	// hold in memory and swap. Processes counts those of the level.
	Largest   []Process
	Processes int
	// Cut: only so many of the node's processes were Looked at, and there are more.
	Cut    bool
	Looked int
	// Levels are the victim's cgroup and those above it, but for the root.
	Levels []LevelUse
	// Stats is nil where the kernel's places of them are not known.
	Stats *Stats
}

// Process is one of a scene's. It shares its memory with none of the others.
type Process struct {
	TGID, ContainerPID int
	UID                uint32
	ScoreAdj           int
	// Cgroup is the memory cgroup that it is in.
	Cgroup                     uint64
	Comm                       string
	Anon, File, Shmem, Swapped uint64
}

// Held is what the process held in memory and swap, in bytes.
func (p Process) Held() uint64 { return p.Anon + p.File + p.Shmem + p.Swapped }

// LevelUse is what a cgroup had and may have; a Limit of 0 is none. Swap is memory plus swap
// in version 1.
type LevelUse struct {
	Cgroup                             uint64
	Usage, Limit, SwapUsage, SwapLimit uint64
}

// Stats is what a cgroup's memory was, as the kernel had last added it up: that is right
// before the kill unless it had reported ten in five seconds (oom_kill_process,
// mm/oom_kill.c), so whether they fit the usage has to be looked at. File is without Shmem,
// Kernel with Slab. Usage is what the cgroup had in use at that moment, which of a group kill's
// later victims is another than that of their own kill.
type Stats struct{ Anon, File, Shmem, Kernel, Slab, Sock, Usage uint64 }

const sceneSize = int(unsafe.Sizeof(programsScene{}))

// see takes in a raw scene if it belongs to this kill.
func (k *OOMKill) see(raw []byte) {
	var s programsScene
	if _, err := binary.Decode(raw, binary.NativeEndian, &s); err != nil || s.Taken == 0 || s.Taken != k.taken {
		return
	}
	page := uint64(os.Getpagesize())
	scene := &Scene{Processes: int(s.Processes), Looked: int(s.Looked), Cut: s.Flags&uint32(programsSceneFlagSCENE_CUT) != 0}
	for _, p := range s.Largest {
		if p.Tgid != 0 {
			scene.Largest = append(scene.Largest, Process{TGID: int(p.Tgid), ContainerPID: int(p.NsTgid), UID: p.Uid, ScoreAdj: int(p.ScoreAdj),
				Cgroup: p.Cgroup, Comm: text(p.Comm[:]), Anon: p.Anon * page, File: p.File * page, Shmem: p.Shmem * page, Swapped: p.Swapped * page})
		}
	}
	slices.SortStableFunc(scene.Largest, func(a, b Process) int { return int(b.Held()/page) - int(a.Held()/page) })
	// A counter cannot be set to more pages than that: it is as good as none.
	limit := func(pages uint64) uint64 {
		if pages >= 1<<62/page {
			return 0
		}
		return pages * page
	}
	for _, l := range s.Level[:min(int(s.Levels), len(s.Level))] {
		scene.Levels = append(scene.Levels, LevelUse{l.Cgroup, l.Usage * page, limit(l.Limit), l.SwapUsage * page, limit(l.SwapLimit)})
	}
	if s.Flags&uint32(programsSceneFlagSCENE_STATS) != 0 {
		stat := func(i programsStat) uint64 { return uint64(max(s.Stats[i], 0)) }
		shmem := stat(programsStatSTAT_SHMEM)
		scene.Stats = &Stats{
			Anon: stat(programsStatSTAT_ANON) * page, Shmem: shmem * page,
			File:   (max(stat(programsStatSTAT_FILE), shmem) - shmem) * page,
			Kernel: stat(programsStatSTAT_KERNEL) * page, Sock: stat(programsStatSTAT_SOCK) * page,
			Usage: s.Usage * page,
			Slab:  stat(programsStatSTAT_SLAB_RECLAIMABLE) + stat(programsStatSTAT_SLAB_UNRECLAIMABLE),
		}
	}
	k.Scene = scene
}

// settings are what the programs have to be told: see struct setting in bpf/records.h.
func settings(kernel *btf.Spec, signals, all bool) programsSetting {
	s := programsSetting{Stats: statPlaces(kernel)}
	if signals {
		s.Signals = 1
	}
	if all {
		s.All = 1
	}
	if cpus, err := cebpf.PossibleCPU(); err == nil {
		s.Cpus = uint32(cpus)
	}
	return s
}

// statPlaces says where in memcg_vmstats.state each stat is, plus one. Until Linux 6.10 the
// place is the item's number. Since then those that no memory cgroup has are left out
// (ff48c71c26aa "memcg: reduce memory for the lruvec and memcg stats"), by a table that is
// in no type: what is before the items we want has not changed, and the items of nodes, which
// come first, are as many as struct lruvec_stats has. A kernel that does otherwise has
// figures that do not add up to the usage, which is looked at for each kill.
func statPlaces(kernel *btf.Spec) (places [programsStatSTATS]uint32) {
	var vmstats, lruvec *btf.Struct
	var node, memcg *btf.Enum
	if kernel == nil || kernel.TypeByName("memcg_vmstats", &vmstats) != nil ||
		kernel.TypeByName("node_stat_item", &node) != nil || kernel.TypeByName("memcg_stat_item", &memcg) != nil {
		return places
	}
	value := func(e *btf.Enum, name string) (uint32, bool) {
		for _, v := range e.Values {
			if v.Name == name {
				return uint32(v.Value), true
			}
		}
		return 0, false
	}
	entries := func(s *btf.Struct) uint32 {
		for _, m := range s.Members {
			if a, ok := m.Type.(*btf.Array); ok && m.Name == "state" {
				return a.Nelems
			}
		}
		return 0
	}
	all, known := value(memcg, "MEMCG_NR_STAT")
	swap, also := value(memcg, "MEMCG_SWAP") // the first of its kind
	direct, nodes := entries(vmstats) == all, uint32(0)
	if !direct && kernel.TypeByName("lruvec_stats", &lruvec) == nil {
		nodes = entries(lruvec)
	}
	if !known || !also || !direct && nodes == 0 {
		return places
	}
	place := func(item string) (uint32, bool) {
		if n, ok := value(memcg, item); ok {
			if !direct {
				n += nodes - swap
			}
			return n, true
		}
		number, ok := value(node, item)
		n := number
		if !direct {
			for _, absent := range []string{"NR_ISOLATED_ANON", "NR_ISOLATED_FILE", "WORKINGSET_NODES", "NR_WRITEBACK_TEMP"} {
				if v, there := value(node, absent); there && v < number {
					n--
				}
			}
		}
		return n, ok
	}
	var found [programsStatSTATS]uint32
	for stat, item := range map[programsStat]string{
		programsStatSTAT_ANON: "NR_ANON_MAPPED", programsStatSTAT_FILE: "NR_FILE_PAGES", programsStatSTAT_SHMEM: "NR_SHMEM",
		programsStatSTAT_SLAB_RECLAIMABLE: "NR_SLAB_RECLAIMABLE_B", programsStatSTAT_SLAB_UNRECLAIMABLE: "NR_SLAB_UNRECLAIMABLE_B",
		programsStatSTAT_KERNEL: "MEMCG_KMEM", programsStatSTAT_SOCK: "MEMCG_SOCK",
	} {
		n, ok := place(item)
		if !ok || n >= entries(vmstats) {
			return places
		}
		found[stat] = n + 1
	}
	return found
}
