package ebpf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf/btf"
)

// Both programs load on both kernels, so the choice is by the arguments alone.
func TestMarkVictimIsChosenByTheKernelsArguments(t *testing.T) {
	data := btf.FuncParam{Type: &btf.Pointer{Target: &btf.Void{}}}
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	for _, c := range []struct {
		name  string
		first btf.Type
		want  string
	}{
		{"6.1", number, programsProgMarkVictimPid},
		{"6.1 with pid_t", &btf.Typedef{Name: "pid_t", Type: number}, programsProgMarkVictimPid},
		{"6.18", &btf.Pointer{Target: &btf.Struct{Name: "task_struct"}}, programsProgMarkVictim},
	} {
		b, err := btf.NewBuilder([]btf.Type{&btf.Typedef{Name: "btf_trace_mark_victim", Type: &btf.Pointer{
			Target: &btf.FuncProto{Return: &btf.Void{}, Params: []btf.FuncParam{data, {Type: c.first}}}}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := b.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if have := markVictim(spec); have != c.want {
			t.Errorf("%s: %s, want %s", c.name, have, c.want)
		}
		if tracepoint(spec, "no_such") != nil {
			t.Errorf("%s has a tracepoint it has not", c.name)
		}
	}
}

// Places of stats in a kernel before and since some items are left out of memcg_vmstats:
// 6.18's are those that TestSceneOfAnOOMKill finds to add up where it runs.
func TestPlacesOfStatsAreFoundByTheKernelsTypes(t *testing.T) {
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	state := func(name string, n uint32) btf.Type {
		return &btf.Struct{Name: name, Size: 8 * n, Members: []btf.Member{{Name: "state", Type: &btf.Array{Index: long, Type: long, Nelems: n}}}}
	}
	enum := func(name string, values map[string]uint64) btf.Type {
		e := &btf.Enum{Name: name, Size: 4}
		for _, n := range slices.Sorted(maps.Keys(values)) {
			e.Values = append(e.Values, btf.EnumValue{Name: n, Value: values[n]})
		}
		return e
	}
	node := enum("node_stat_item", map[string]uint64{"NR_SLAB_RECLAIMABLE_B": 5, "NR_SLAB_UNRECLAIMABLE_B": 6, "NR_ISOLATED_ANON": 7, "NR_ISOLATED_FILE": 8,
		"WORKINGSET_NODES": 9, "NR_ANON_MAPPED": 17, "NR_FILE_PAGES": 19, "NR_SHMEM": 22})
	// Older kernels have one more, which no memory cgroup has.
	temp := enum("node_stat_item", map[string]uint64{"NR_SLAB_RECLAIMABLE_B": 5, "NR_SLAB_UNRECLAIMABLE_B": 6, "NR_ISOLATED_ANON": 7, "NR_ISOLATED_FILE": 8,
		"WORKINGSET_NODES": 9, "NR_ANON_MAPPED": 17, "NR_FILE_PAGES": 19, "NR_WRITEBACK_TEMP": 22, "NR_SHMEM": 23})
	memcg := enum("memcg_stat_item", map[string]uint64{"MEMCG_SWAP": 51, "MEMCG_SOCK": 52, "MEMCG_KMEM": 55, "MEMCG_NR_STAT": 58})
	for _, c := range []struct {
		name  string
		types []btf.Type
		want  [programsStatSTATS]uint32
	}{
		{"6.1", []btf.Type{node, memcg, state("memcg_vmstats", 58)}, [...]uint32{18, 20, 23, 56, 6, 7, 53}},
		{"6.18", []btf.Type{node, memcg, state("memcg_vmstats", 40), state("lruvec_stats", 33)}, [...]uint32{15, 17, 20, 38, 6, 7, 35}},
		{"6.12", []btf.Type{temp, memcg, state("memcg_vmstats", 40), state("lruvec_stats", 33)}, [...]uint32{15, 17, 20, 38, 6, 7, 35}},
		{"fewer, and it is not known which", []btf.Type{node, memcg, state("memcg_vmstats", 40)}, [programsStatSTATS]uint32{}},
		{"an item is missing", []btf.Type{node, enum("memcg_stat_item", map[string]uint64{"MEMCG_SWAP": 51, "MEMCG_NR_STAT": 58}), state("memcg_vmstats", 58)}, [programsStatSTATS]uint32{}},
		{"a place beyond the end", []btf.Type{node, memcg, state("memcg_vmstats", 20), state("lruvec_stats", 33)}, [programsStatSTATS]uint32{}},
		{"another kernel", []btf.Type{long}, [programsStatSTATS]uint32{}},
	} {
		b, err := btf.NewBuilder(c.types, nil)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := b.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if got := statPlaces(spec); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := statPlaces(nil); got != [programsStatSTATS]uint32{} {
		t.Errorf("of no kernel: %v", got)
	}
}

// A probe has three outcomes besides success: the kernel lacks it, the rights do not allow
// it, or the kernel refuses it for a reason of its own.
func TestOutcomesOfProbesAreToldApart(t *testing.T) {
	f := watchables()[1].family
	for _, c := range []struct {
		err  error
		ok   bool
		says string
	}{
		{nil, true, f.with},
		{fmt.Errorf("sys_enter: %w", errAbsent), false, "absent: " + f.without},
		{fmt.Errorf("load: %w", unix.EPERM), false, "refused by kernel or rights: " + f.without},
		{fmt.Errorf("load: %w", unix.E2BIG), false, "refused: " + f.without},
	} {
		if got := (outcome{f, c.err}).feature(); got.OK != c.ok || !strings.HasPrefix(got.Consequence, c.says) || got.Name != f.name {
			t.Errorf("%v: %+v", c.err, got)
		}
	}
}

// Where only the program at the beginning of calls is refused, counting goes on.
func TestWithoutTheBeginningOfCallsTheyAreCounted(t *testing.T) {
	p := load(t)
	p.watching.chosen = &choice{withoutEntry: unix.EINVAL}
	for i, f := range p.SyscallFeatures() {
		if without := watchables()[i].flags&syscallsWatchingWATCH_ENTRY == 0; f.OK != without || !without && !strings.HasPrefix(f.Consequence, "refused: ") {
			t.Errorf("%+v", f)
		}
	}
}
